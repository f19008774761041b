// An API of the operator: it knows the issuer and its own audience, and serves every request with a valid token.
//
// node PROGRAM {"issuer", "audience", "secret"}: it prints {"listening": PORT}. Without a secret, keys come from the
// metadata. /express uses express-oauth2-jwt-bearer, /strict the same in strict mode (RFC 9068), and /jose uses jose.
import express from "express";
import { auth } from "express-oauth2-jwt-bearer";
import { createRemoteJWKSet, jwtVerify } from "jose";

const { issuer, audience, secret } = JSON.parse(process.argv[2]);
const source = secret ? { issuer, secret, tokenSigningAlg: "HS256" } : { issuerBaseURL: issuer };

const keys = async () => {
  if (secret) return new TextEncoder().encode(secret);
  const metadata = await (await fetch(new URL("/.well-known/oauth-authorization-server", issuer))).json();
  return createRemoteJWKSet(new URL(metadata.jwks_uri));
};
const known = await keys();

async function withJose(request, response, next) {
  try {
    const token = request.headers.authorization.slice("Bearer ".length);
    request.auth = await jwtVerify(token, known, { issuer, audience, typ: "at+jwt" });
    next();
  } catch (error) {
    response.status(401).set("WWW-Authenticate", 'Bearer error="invalid_token"').json({ message: error.code });
  }
}

const app = express();
const serve = (request, response) => response.json({ sub: request.auth.payload.sub });
app.get("/express", auth({ ...source, audience }), serve);
app.get("/strict", auth({ ...source, audience, strict: true }), serve);
app.get("/jose", withJose, serve);
// Answers errors like express, but in JSON. The unused `next` is needed: express knows an error handler by its four
// parameters.
app.use((error, request, response, next) =>
  response.status(error.status ?? 500).set(error.headers).json({ message: error.message }),
);
const server = app.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ listening: server.address().port })));
