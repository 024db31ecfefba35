// SPDX-License-Identifier: Apache-2.0

// Package measure is how figures are made, for all benchmarks: arms of one run that are measured in turns, ratios of neighbours with
// their intervals, what the machine is, and what BPF programs took. In: samples. Out: figures, and what they depend on.
package measure

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Ratio compares two arms of a load: how many times longer the second takes.
type Ratio struct {
	N      int     `json:"n"`
	Median float64 `json:"median"` // of the ratios of neighbours
	Low    float64 `json:"low"`    // 95 % interval of that median
	High   float64 `json:"high"`
	Min    float64 `json:"min"` // the second's fastest sample by the first's fastest
}

// Compare takes the times of two arms, in which equal places were measured one after the other.
func Compare(base, with []float64, rng *rand.Rand) Ratio {
	n := min(len(base), len(with))
	if n == 0 {
		return Ratio{Median: math.NaN(), Low: math.NaN(), High: math.NaN(), Min: math.NaN()}
	}
	ratios := make([]float64, n)
	for i := range n {
		ratios[i] = with[i] / base[i]
	}
	low, high := Bootstrap(ratios, rng)
	return Ratio{N: n, Median: Median(ratios), Low: low, High: high, Min: slices.Min(with[:n]) / slices.Min(base[:n])}
}

// Median is the middle of values, or the mean of the two in the middle; NaN of none.
func Median(values []float64) float64 { return Quantile(values, 0.5) }

// Quantile interpolates linearly between order statistics (Hyndman and Fan's type 7); NaN of none.
func Quantile(values []float64, q float64) float64 {
	return quantileOfSorted(slices.Sorted(slices.Values(values)), q)
}

func quantileOfSorted(s []float64, q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	at := q * float64(len(s)-1)
	i := int(at)
	if i+1 >= len(s) {
		return s[len(s)-1]
	}
	return s[i] + (at-float64(i))*(s[i+1]-s[i])
}

// resamples is how often bootstrap draws: the ends of a 95 % interval no longer move in their third digit.
const resamples = 4000

// Bootstrap is the 95 % percentile interval of the median: the samples are drawn again with replacement, and the
// medians of those draws are sorted (Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13).
func Bootstrap(values []float64, rng *rand.Rand) (low, high float64) {
	medians, draw := make([]float64, resamples), make([]float64, len(values))
	for i := range medians {
		for j := range draw {
			draw[j] = values[rng.IntN(len(values))]
		}
		slices.Sort(draw)
		medians[i] = quantileOfSorted(draw, 0.5)
	}
	return Quantile(medians, 0.025), Quantile(medians, 0.975)
}

// Order is the sequence of arms in each of n rounds: random, but every arm comes first, second, … equally often as
// far as n allows, so that what the place in a round does cancels.
func Order(n, arms int, rng *rand.Rand) [][]int {
	rounds := make([][]int, 0, n+arms)
	for len(rounds) < n {
		// A Latin square of a random first row: each arm once in each place.
		first := rng.Perm(arms)
		for shift := range arms {
			round := make([]int, arms)
			for i := range round {
				round[i] = first[(i+shift)%arms]
			}
			rounds = append(rounds, round)
		}
	}
	rounds = rounds[:n]
	rng.Shuffle(n, func(i, j int) { rounds[i], rounds[j] = rounds[j], rounds[i] })
	return rounds
}
