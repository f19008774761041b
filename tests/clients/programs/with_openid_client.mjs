import * as client from "openid-client";
import { CLIENT_ID, converse, failed } from "./dialog.mjs";

await converse(async ({ issuer, redirectUri, scope, pkce, open }) => {
  const config = await client.discovery(new URL(issuer), CLIENT_ID, undefined, undefined, {
    execute: [client.allowInsecureRequests], // the tests' server speaks plain http, on loopback
  });
  const verifier = pkce ? client.randomPKCECodeVerifier() : undefined;
  const state = client.randomState();
  const url = client.buildAuthorizationUrl(config, {
    redirect_uri: redirectUri,
    state,
    ...(pkce && {
      code_challenge: await client.calculatePKCECodeChallenge(verifier),
      code_challenge_method: "S256",
    }),
    ...(scope && { scope }),
  });
  const checks = { pkceCodeVerifier: verifier, expectedState: state };
  const granted = await client.authorizationCodeGrant(config, await open(url), checks);

  const me = new URL("/users/me", issuer);
  const ask = (token) => client.fetchProtectedResource(config, token, me, "GET");
  const profile = await (await ask(granted.access_token)).json();
  const refreshed = await client.refreshTokenGrant(config, granted.refresh_token);
  const later = await (await ask(refreshed.access_token)).json();
  await client.tokenRevocation(config, refreshed.refresh_token);
  const afterwards = {
    profile: (await failed(() => ask(refreshed.access_token))).status,
    refresh: (await failed(() => client.refreshTokenGrant(config, refreshed.refresh_token))).error,
  };
  return { granted, profile, refreshed, later, afterwards };
});
