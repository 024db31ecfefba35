// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

const export = `{"type":"exec","count":1,"process":{"exec_id":"b-1-1","pid":1,"binary":"/w"}}
{"type":"fork","count":1,"process":{"exec_id":"b-2-0","pid":2,"binary":"/w","parent":{"binary":"/w"}}}
{"type":"exec","count":1,"process":{"exec_id":"b-2-1","pid":2,"binary":"/c","parent":{"binary":"/w"}}}
{"type":"exit","count":1,"process":{"exec_id":"b-2-1","pid":2,"binary":"/c","parent":{"binary":"/w"}}}
{"type":"fork","count":1,"process":{"exec_id":"b-3-0","pid":3,"binary":"/other"}}
{"type":"exec","count":1,"pre_existing":true,"process":{"exec_id":"b-9-1","pid":9,"binary":"/c"}}
{"type":"exec","count":1,"process":{"exec_id":"b-4-1","pid":4,"binary":"/c"}}
{"type":"exit","count":1,"process":{"exec_id":"b-5-1","pid":5,"binary":"/c"}}
{"type":"connect","count":1,"process":{"binary":"/w"},"socket":{"protocol":"tcp"}}
{"type":"connect","count":7,"process":{"binary":"/w"},"socket":{"protocol":"tcp","direction":"outbound"}}
{"type":"accept","count":8,"process":{"binary":"/w"},"socket":{"protocol":"tcp"}}
{"type":"close","count":16,"process":{"binary":"/w"},"socket":{"protocol":"tcp","direction":"inbound"}}
{"type":"close","count":1,"process":{"binary":"/w"},"socket":{"protocol":"tcp","direction":"listener"}}
{"type":"connect","count":1,"process":{"binary":"/w"},"socket":{"protocol":"unix"}}
{"type":"loss","count":1,"loss":{"stage":"kernel","reason":"ring full","count":3}}
{"type":"loss","count":1,"loss":{"stage":"kernel","reason":"ring full","count":4}}
`

func TestCount(t *testing.T) {
	got, err := count(strings.NewReader(export), "/w", "/c")
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string][2]uint64{
		"forks": {got.Forks, 1}, "execs": {got.Execs, 2}, "exits": {got.Exits, 2}, "images": {uint64(got.Images), 2},
		"ended": {uint64(got.Ended), 1}, "connects": {got.Connects, 8}, "accepts": {got.Accepts, 8}, "closes": {got.Closes, 16},
		"lines": {got.SocketLines, 4},
	} {
		if v[0] != v[1] {
			t.Errorf("%s = %d, want %d", name, v[0], v[1])
		}
	}
	if got := got.lost(); got != "kernel: ring full 7" {
		t.Errorf("lost = %q", got)
	}
}

func TestCountRefusesACutExport(t *testing.T) {
	if _, err := count(strings.NewReader(export[:len(export)-5]), "/w", "/c"); err == nil {
		t.Error("no error for an export whose last line has no end")
	}
	if _, err := count(strings.NewReader(`{"type":"loss"`+"\n"), "/w", "/c"); err == nil {
		t.Error("no error for a broken line")
	}
}
