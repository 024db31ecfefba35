// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

func TestAttemptsThatFail(t *testing.T) {
	for errno, why := range map[string]model.CloseReason{"ECONNREFUSED": model.CloseRefused, "ETIMEDOUT": model.CloseTimeout,
		"EHOSTUNREACH": model.CloseUnreachable, "ENETUNREACH": model.CloseUnreachable, "ECANCELED": model.CloseUnknown, "EPERM": model.CloseUnknown} {
		w := newWorld(t, Options{})
		w.out(1, 11, client, server).fail(errno)
		f := w.only()
		if f.Verdict != model.FlowFailed || f.Close != why || f.Reason != errno || f.Error.String() != errno || pid(f.Source) != 1 || f.Direction != model.FlowOutbound {
			t.Errorf("%s: flow is %+v", errno, f)
		}
	}
}

func TestDeniedAttemptsAreOneFlow(t *testing.T) {
	for name, order := range map[string]func(c *sock){
		"the policy first":  func(c *sock) { c.judge(model.VerdictDenied, model.OpConnect, "cgroup connect4"); c.fail("EPERM") },
		"the failure first": func(c *sock) { c.fail("EPERM"); c.judge(model.VerdictDenied, model.OpConnect, "cgroup connect4") },
		"killed":            func(c *sock) { c.judge(model.VerdictKilled, model.OpConnect, "cgroup connect4") },
		"a datagram": func(c *sock) {
			c.protocol = "udp"
			c.judge(model.VerdictDenied, model.OpSend, "cgroup sendmsg4")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Options{})
			order(w.out(1, 11, client, server))
			f := w.only()
			if f.Verdict != model.FlowDenied || f.Policy != "web" || f.Rule != "egress.deny[0]" || f.Close != model.CloseDenied || pid(f.Source) != 1 {
				t.Errorf("flow is %+v", f)
			}
			if f.Reason != "policy web, egress.deny[0]" {
				t.Errorf("reason is %q", f.Reason)
			}
		})
	}
}

func TestAuditedAttemptsGoOn(t *testing.T) {
	for name, order := range map[string]func(c *sock){
		"the policy first":      func(c *sock) { c.judge(model.VerdictAudited, model.OpConnect, "cgroup connect4"); c.begin() },
		"the policy afterwards": func(c *sock) { c.begin(); c.judge(model.VerdictAudited, model.OpConnect, "cgroup connect4") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Options{})
			c := w.out(1, 11, client, "192.0.2.1:80")
			order(c)
			c.close(3, 4)
			f := w.only()
			if f.Verdict != model.FlowAudited || f.Policy != "web" || f.Total.BytesSent != 3 || f.Close != model.CloseFin {
				t.Errorf("flow is %+v", f)
			}
		})
	}
	w := newWorld(t, Options{})
	c := w.out(1, 11, client, "192.0.2.1:80")
	c.judge(model.VerdictAudited, model.OpConnect, "cgroup connect4")
	w.pass(time.Minute)
	c.fail("ETIMEDOUT")
	if f := w.only(); f.Verdict != model.FlowFailed || f.Close != model.CloseTimeout {
		t.Errorf("flow is %+v", f)
	}
}

func TestAcceptThatAPolicyJudges(t *testing.T) {
	w := newWorld(t, Options{})
	s := w.in(2, 12, server, client)
	s.judge(model.VerdictAudited, model.OpAccept, "cgroup_skb ingress")
	s.begin().close(1, 2)
	if f := w.only(); f.Verdict != model.FlowAudited || f.Direction != model.FlowInbound || pid(f.Destination) != 2 {
		t.Errorf("flow is %+v", f)
	}
	w = newWorld(t, Options{})
	w.in(2, 12, server, client).judge(model.VerdictDenied, model.OpAccept, "cgroup_skb ingress")
	if f := w.only(); f.Verdict != model.FlowDenied || f.Direction != model.FlowInbound || pid(f.Destination) != 2 || f.Source.Address.String() != client {
		t.Errorf("flow is %+v", f)
	}
}

func TestWhatAPolicyCuts(t *testing.T) {
	w := newWorld(t, Options{})
	c := w.out(1, 11, client, "192.0.2.1:80").begin()
	c.judge(model.VerdictDenied, model.OpConnect, "cut")
	c.closeWith("ECONNABORTED", 5, 6)
	f := w.only()
	if f.Verdict != model.FlowDenied || f.Close != model.CloseCut || f.Policy != "web" || f.Total.BytesReceived != 6 {
		t.Errorf("flow is %+v", f)
	}
}

func TestEachDeniedAttemptIsAFlow(t *testing.T) {
	w := newWorld(t, Options{})
	c := w.out(1, 11, client, server)
	for range 3 {
		c.judge(model.VerdictDenied, model.OpConnect, "cgroup connect4")
		c.fail("EPERM")
	}
	c.judge(model.VerdictDenied, model.OpBind, "cgroup bind4") // none of a conversation
	w.pass(time.Second)
	if len(w.got) != 3 || len(w.table.asked) != 0 {
		t.Errorf("%d flows, %d attempts are still waited for", len(w.got), len(w.table.asked))
	}
}
