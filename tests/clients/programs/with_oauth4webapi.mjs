import * as oauth from "oauth4webapi";
import { CLIENT_ID, converse, failed } from "./dialog.mjs";

const insecure = { [oauth.allowInsecureRequests]: true }; // the tests' server speaks plain http, on loopback

await converse(async ({ issuer, redirectUri, scope, pkce, open }) => {
  const address = new URL(issuer);
  const as = await oauth.processDiscoveryResponse(address, await oauth.discoveryRequest(address, insecure));
  const client = { client_id: CLIENT_ID };
  const auth = oauth.None();
  const verifier = pkce ? oauth.generateRandomCodeVerifier() : oauth.nopkce;
  const state = oauth.generateRandomState();

  const url = new URL(as.authorization_endpoint);
  const asked = {
    client_id: CLIENT_ID,
    redirect_uri: redirectUri,
    response_type: "code",
    state,
    ...(pkce && {
      code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
      code_challenge_method: "S256",
    }),
    ...(scope && { scope }),
  };
  for (const [name, value] of Object.entries(asked)) url.searchParams.set(name, value);

  const answer = oauth.validateAuthResponse(as, client, await open(url), state);
  const redeemed = await oauth.authorizationCodeGrantRequest(as, client, auth, answer, redirectUri, verifier, insecure);
  const granted = await oauth.processAuthorizationCodeResponse(as, client, redeemed);

  const me = new URL("/users/me", issuer);
  const ask = (token) => oauth.protectedResourceRequest(token, "GET", me, undefined, undefined, insecure);
  const refresh = async (token) => {
    const response = await oauth.refreshTokenGrantRequest(as, client, auth, token, insecure);
    return oauth.processRefreshTokenResponse(as, client, response);
  };
  const profile = await (await ask(granted.access_token)).json();
  const refreshed = await refresh(granted.refresh_token);
  const later = await (await ask(refreshed.access_token)).json();
  await oauth.processRevocationResponse(
    await oauth.revocationRequest(as, client, auth, refreshed.refresh_token, insecure),
  );
  const afterwards = {
    profile: (await failed(() => ask(refreshed.access_token))).status,
    refresh: (await failed(() => refresh(refreshed.refresh_token))).error,
  };
  return { granted, profile, refreshed, later, afterwards };
});
