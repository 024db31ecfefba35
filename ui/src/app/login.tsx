// SPDX-License-Identifier: Apache-2.0

import { useState } from "react";
import { setToken, token } from "../api/session";

/** Asks for the token of the agent. */
export function Login() {
  const [value, setValue] = useState("");
  const wrong = token() !== "";
  return (
    <main className="login">
      <form
        className="card"
        onSubmit={(e) => {
          e.preventDefault();
          setToken(value.trim());
        }}
      >
        <span className="brand">
          <img src="/icon.svg" alt="" /> vigie
        </span>
        <h1>This agent asks for its token</h1>
        <p className="muted">
          It is in the file that <code>--token-file</code> of <code>vigie run</code> names; root on the host can read
          it. It stays in this tab until you close it.
        </p>
        <label>
          Token
          <input
            type="password"
            autoComplete="off"
            // biome-ignore lint/a11y/noAutofocus: there is nothing else on this page
            autoFocus
            value={value}
            onChange={(e) => setValue(e.target.value)}
          />
        </label>
        {wrong && (
          <p role="alert" className="bad">
            The agent does not take this token: compare it with the file.
          </p>
        )}
        <button type="submit" className="primary" disabled={!value.trim()}>
          Log in
        </button>
      </form>
    </main>
  );
}
