// SPDX-License-Identifier: Apache-2.0

// The token stays in sessionStorage, which belongs to this origin with its port and to this tab. A cookie would be
// sent to every port of this host, and on a host with several users another one may listen there.

const key = "vigie.token";

const listeners = new Set<() => void>();
let refused = false;

/** The token to send; empty when none was given. */
export function token(): string {
  return sessionStorage.getItem(key) ?? "";
}

/** Keeps a token, or forgets it when empty. */
export function setToken(value: string): void {
  if (value) sessionStorage.setItem(key, value);
  else sessionStorage.removeItem(key);
  refused = false;
  for (const f of listeners) f();
}

/** Notes that the agent asks for a token, or does not take the one it got. */
export function noteRefused(): void {
  if (refused) return;
  refused = true;
  for (const f of listeners) f();
}

/** Whether a token has to be asked for. */
export function needsToken(): boolean {
  return refused;
}

/** Calls f when needsToken changes. */
export function onSession(f: () => void): () => void {
  listeners.add(f);
  return () => listeners.delete(f);
}
