// SPDX-License-Identifier: Apache-2.0

import { expect, test } from "vitest";
import { parse } from "yaml";
import { allow, type Denied } from "./allow";
import { diff } from "./diff";

const policy = `apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: web} # ours
spec:
  selector: {unit: nginx.service}
  processes:
    allow: [/usr/sbin/nginx]
  files:
    deny:
    # secrets
    - {path: /etc/shadow, access: [read, write]}
    - /root/.ssh/**
  network:
    egress:
      allow:
      - {to: {cidr: 127.0.0.53}, ports: 53} # the resolver

      deny:
      - to: {cidr: 10.0.0.0/8}
    listen: {allow: []}
  capabilities:
    deny: [CAP_NET_RAW]
`;

const denied = (more: Partial<Denied>): Denied => ({
  rule: "",
  operation: "",
  binary: "/usr/bin/curl",
  path: "",
  protocol: "tcp",
  localAddress: "",
  localPort: 0,
  remoteAddress: "",
  remotePort: 0,
  remoteName: "",
  subject: "",
  ...more,
});

/** What these tests look at in a policy. */
interface Spec {
  files: { deny: unknown[] };
  network: { egress: { allow: unknown[]; deny: unknown[] }; listen: { allow: unknown[] } };
  capabilities: { deny: unknown[] };
}

function changed(more: Partial<Denied>): { lines: string[]; spec: Spec; warning: string | undefined } {
  const c = allow(policy, denied(more));
  if ("reason" in c) throw new Error(c.reason);
  const lines = diff(policy, c.text)
    .filter((l) => l.kind === "added" || l.kind === "removed")
    .map((l) => `${l.kind === "added" ? "+" : "-"}${l.text}`);
  return { lines, spec: parse(c.text).spec, warning: c.warning };
}

test("an entry joins a list in the list's own style", () => {
  expect(changed({ rule: "processes.allow", operation: "exec", path: "/bin/sh" }).lines).toEqual([
    "-    allow: [/usr/sbin/nginx]",
    "+    allow: [/usr/sbin/nginx, /bin/sh]",
  ]);
  const egress = changed({
    rule: "network.egress.allow",
    operation: "connect",
    remoteAddress: "192.0.2.1",
    remotePort: 443,
    remoteName: "a.example",
  });
  expect(egress.lines).toEqual(["+      - {to: {fqdn: a.example}, ports: 443/tcp, by: /usr/bin/curl}"]);
  expect(egress.spec.network.egress.allow).toHaveLength(2);
  expect(
    changed({ rule: "network.listen.allow", operation: "listen", localAddress: "0.0.0.0", localPort: 80 }).spec[
      "network"
    ].listen.allow,
  ).toEqual([{ on: { cidr: "0.0.0.0" }, ports: "80/tcp", by: "/usr/bin/curl" }]);
});

test("a rule that denies gets an exception, or less to deny", () => {
  const cidr = changed({
    rule: "network.egress.deny[0]",
    operation: "connect",
    remoteAddress: "10.1.2.3",
    remotePort: 443,
  });
  expect(cidr.spec.network.egress.deny).toEqual([{ to: { cidr: "10.0.0.0/8", except: ["10.1.2.3"] } }]);
  expect(cidr.warning).toBeUndefined();
  const access = changed({ rule: "files.deny[0]", operation: "read", path: "/etc/shadow" });
  expect(access.spec.files.deny[0]).toEqual({ path: "/etc/shadow", access: ["write"] });
  expect(access.warning).toContain("read");
});

test("a rule that cannot be narrowed goes as a whole, and that is said", () => {
  const ssh = changed({ rule: "files.deny[1]", operation: "read", path: "/root/.ssh/id" });
  expect(ssh.lines).toEqual(["-    - /root/.ssh/**"]);
  expect(ssh.warning).toContain("whole rule");
  expect(
    changed({ rule: "capabilities.deny[0]", operation: "capability", subject: "CAP_NET_RAW" }).spec.capabilities.deny,
  ).toEqual([]);
});

test("what no rule can allow has a reason", () => {
  expect(allow(policy, denied({ rule: "network.egress.allow", operation: "socket", subject: "AF_PACKET" }))).toEqual({
    reason: "No rule allows this alone: socket AF_PACKET.",
  });
  expect(allow(policy, denied({ rule: "network.ingress.allow" }))).toEqual({
    reason: "The policy has no spec.network.ingress.allow any more.",
  });
  expect(allow("kind: TracingPolicy", denied({ rule: "x" }))).toHaveProperty("reason");
});
