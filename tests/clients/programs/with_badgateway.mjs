import { generateCodeVerifier, OAuth2Client } from "@badgateway/oauth2-client";
import { randomUUID } from "node:crypto";
import { CLIENT_ID, converse, failed } from "./dialog.mjs";

const named = ({ accessToken, refreshToken, scope, expiresAt, extraParams }) => ({
  access_token: accessToken,
  refresh_token: refreshToken,
  scope: scope?.join(" "),
  expires_in: (expiresAt - Date.now()) / 1000,
  ...extraParams,
});

await converse(async ({ issuer, redirectUri, scope, pkce, open }) => {
  const client = new OAuth2Client({ server: issuer, clientId: CLIENT_ID });
  const codeVerifier = pkce ? await generateCodeVerifier() : undefined;
  const state = randomUUID();
  const asked = { redirectUri, state, codeVerifier, ...(scope && { scope: scope.split(" ") }) };
  const url = await client.authorizationCode.getAuthorizeUri(asked);
  const granted = await client.authorizationCode.getTokenFromCodeRedirect(await open(url), asked);

  const ask = (token) =>
    fetch(new URL("/users/me", issuer), { headers: { Authorization: `Bearer ${token.accessToken}` } });
  const profile = await (await ask(granted)).json();
  const refreshed = await client.refreshToken(granted);
  const later = await (await ask(refreshed)).json();
  await client.revoke(refreshed); // it revokes the access token by default
  const afterwards = {
    profile: (await ask(refreshed)).status,
    refresh: (await failed(() => client.refreshToken(refreshed))).error,
  };
  return { granted: named(granted), profile, refreshed: named(refreshed), later, afterwards };
});
