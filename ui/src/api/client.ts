// SPDX-License-Identifier: Apache-2.0

import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { Vigie } from "../gen/vigie/v1/vigie_pb";
import { noteRefused, token } from "./session";

// The agent answers with what it knows to who has the token. A refusal shows the login.
const authorize: Interceptor = (next) => async (request) => {
  const t = token();
  if (t) request.header.set("Authorization", `Bearer ${t}`);
  try {
    return await next(request);
  } catch (err) {
    if (ConnectError.from(err).code === Code.Unauthenticated) noteRefused();
    throw err;
  }
};

/** The API of the agent that served this page. */
export const vigie = createClient(
  Vigie,
  createConnectTransport({ baseUrl: location.origin, useBinaryFormat: true, interceptors: [authorize] }),
);

/** What went wrong in words for people, and what to do about it. */
export function explain(err: unknown): string {
  const e = ConnectError.from(err);
  switch (e.code) {
    case Code.Unavailable:
    case Code.Unknown:
      return "The agent does not answer. Is it running? `systemctl status vigie` or `vigie status` on the host tells.";
    case Code.Unimplemented:
      return "This agent does not have this yet: it is older than this page.";
    case Code.ResourceExhausted:
      return `${e.rawMessage}. Close other tabs of this page, or wait for a moment.`;
    default:
      return e.rawMessage;
  }
}

/** Whether the call was given up by the page itself. */
export function isAbort(err: unknown): boolean {
  return ConnectError.from(err).code === Code.Canceled;
}
