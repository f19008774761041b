// The common part of all JavaScript clients: the exchange with the test, and the browser that it opens.
//
// node PROGRAM ISSUER REDIRECT_URI {"scope": …, "pkce": …}: it prints {"open": URL}, reads a line with the URL that the browser came
// back to, and prints {"done": …}, or {"refused": …} when the library gives up.
import { createInterface } from "node:readline/promises";

export const CLIENT_ID = "nextarget-app";

const say = (message) => console.log(JSON.stringify(message));

export async function converse(client) {
  const [issuer, redirectUri, options] = process.argv.slice(2);
  const { scope, pkce = true } = JSON.parse(options);
  const lines = createInterface({ input: process.stdin });
  const open = async (url) => {
    say({ open: String(url) });
    return new URL((await lines[Symbol.asyncIterator]().next()).value);
  };
  try {
    say({ done: await client({ issuer, redirectUri, scope, pkce, open }) });
  } catch (error) {
    say({ refused: failure(error) });
  } finally {
    lines.close();
  }
}

// `error` is the OAuth error code, under any name that the library has for it.
export const failure = ({ name, code, message, error, oauth2Code, status }) => ({
  name,
  code,
  message,
  error: error ?? oauth2Code,
  status,
});

// The error of a call that must fail.
export async function failed(call) {
  try {
    await call();
  } catch (error) {
    return failure(error);
  }
  return null;
}
