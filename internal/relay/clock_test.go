// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Whatever the way there and back takes, the true offset is within what the clock says that it may be off.
func TestClockMeasures(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		truth := time.Duration(rng.Int64N(int64(20*time.Minute))) - 10*time.Minute
		var c clock
		now := time.Unix(1_000_000, 0)
		for range 1 + rng.IntN(20) {
			there, back := time.Duration(rng.Int64N(int64(80*time.Millisecond))), time.Duration(rng.Int64N(int64(80*time.Millisecond)))
			c.measure(now, now.Add(there+back), now.Add(there).Add(truth), 0)
			now = now.Add(5 * time.Second)
		}
		ahead, uncertainty, trip := c.offset()
		if (ahead - truth).Abs() > uncertainty {
			t.Fatalf("the offset is %v, told as %v ± %v", truth, ahead, uncertainty)
		}
		if uncertainty != trip/2 || len(c.last) > readings {
			t.Fatalf("uncertainty %v of a trip of %v, %d readings", uncertainty, trip, len(c.last))
		}
	}
}

func TestClockFollowsOneThatIsSet(t *testing.T) {
	var c clock
	now := time.Unix(1_000_000, 0)
	c.measure(now, now.Add(time.Millisecond), now, 0)
	c.measure(now, now.Add(10*time.Millisecond), now.Add(time.Hour), 0)
	if ahead, _, _ := c.offset(); (ahead - time.Hour).Abs() > 10*time.Millisecond {
		t.Errorf("after it was set by an hour the offset is %v", ahead)
	}
}

func TestSmallOffsetsAreNotCorrected(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, c := range []struct {
		offset, trip, coarse time.Duration
		corrected            bool
	}{
		{5 * time.Millisecond, time.Millisecond, 0, false},
		{80 * time.Millisecond, 200 * time.Millisecond, 0, false}, // may be the network
		{80 * time.Millisecond, 2 * time.Millisecond, 0, true},
		{-80 * time.Millisecond, 2 * time.Millisecond, 0, true},
		{400 * time.Millisecond, 2 * time.Millisecond, time.Second / 2, false}, // an agent that says the second alone
		{3 * time.Second, 2 * time.Millisecond, time.Second / 2, true},
	} {
		var k clock
		k.measure(now, now.Add(c.trip), now.Add(c.trip/2+c.offset), c.coarse)
		if got := k.correction() != 0; got != c.corrected {
			t.Errorf("offset %v by a trip of %v: corrected %v", c.offset, c.trip, got)
		}
	}
	if (&clock{}).correction() != 0 {
		t.Error("what was not measured is corrected")
	}
}
