// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func seeded() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

func TestQuantile(t *testing.T) {
	for _, tc := range []struct {
		values  []float64
		q, want float64
	}{
		{[]float64{7}, 0.5, 7},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 3, 2}, 0.5, 2.5},
		{[]float64{1, 2, 3, 4, 5}, 0, 1},
		{[]float64{1, 2, 3, 4, 5}, 1, 5},
		{[]float64{10, 20}, 0.25, 12.5},
	} {
		if got := Quantile(tc.values, tc.q); got != tc.want {
			t.Errorf("Quantile(%v, %v) = %v, want %v", tc.values, tc.q, got, tc.want)
		}
	}
	if got := Median(nil); !math.IsNaN(got) {
		t.Errorf("Median of nothing = %v, want NaN", got)
	}
}

func TestQuantileLeavesItsArgument(t *testing.T) {
	values := []float64{3, 1, 2}
	Median(values)
	if !slices.Equal(values, []float64{3, 1, 2}) {
		t.Errorf("values were sorted in place: %v", values)
	}
}

func TestCompareCancelsDrift(t *testing.T) {
	// The machine gets slower all the time; the second arm always takes a tenth more than its neighbour.
	var base, with []float64
	for i := range 10 {
		drift := 1 + float64(i)
		base, with = append(base, drift), append(with, drift*1.1)
	}
	r := Compare(base, with, seeded())
	for name, got := range map[string]float64{"median": r.Median, "low": r.Low, "high": r.High, "min": r.Min} {
		if math.Abs(got-1.1) > 1e-9 {
			t.Errorf("%s = %v, want 1.1", name, got)
		}
	}
	if r.N != 10 {
		t.Errorf("n = %d, want 10", r.N)
	}
}

func TestCompareOfNothing(t *testing.T) {
	if r := Compare(nil, []float64{1}, seeded()); r.N != 0 || !math.IsNaN(r.Median) {
		t.Errorf("compare of no samples = %+v, want n 0 and NaN", r)
	}
}

func TestBootstrapCoversTheTruth(t *testing.T) {
	// Of many experiments on noise around 1, about 95 % of the intervals hold 1.
	rng, held := seeded(), 0
	const experiments = 100
	for range experiments {
		values := make([]float64, 20)
		for i := range values {
			values[i] = 1 + 0.1*rng.NormFloat64()
		}
		low, high := Bootstrap(values, rng)
		if low > high {
			t.Fatalf("interval [%v, %v] is upside down", low, high)
		}
		if low <= 1 && 1 <= high {
			held++
		}
	}
	if share := float64(held) / experiments; share < 0.88 || share > 0.995 {
		t.Errorf("%.1f %% of the 95 %% intervals hold the truth", 100*share)
	}
}

func TestOrderIsBalanced(t *testing.T) {
	const arms = 3
	rounds := Order(12, arms, seeded())
	if len(rounds) != 12 {
		t.Fatalf("%d rounds, want 12", len(rounds))
	}
	var places [arms][arms]int
	for _, round := range rounds {
		if s := slices.Sorted(slices.Values(round)); !slices.Equal(s, []int{0, 1, 2}) {
			t.Fatalf("round %v does not have each arm once", round)
		}
		for place, arm := range round {
			places[arm][place]++
		}
	}
	for arm := range places {
		for place, n := range places[arm] {
			if n != 4 {
				t.Errorf("arm %d stands %d times in place %d, want 4", arm, n, place)
			}
		}
	}
	if got := len(Order(5, 2, seeded())); got != 5 {
		t.Errorf("%d rounds, want 5", got)
	}
}
