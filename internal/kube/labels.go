// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"hash/maphash"
	"maps"
)

// labelSets gives equal sets of labels one map: the pods of a template have the same, and labels are half of what a pod takes. It is
// the owner's to lock.
type labelSets struct {
	seed maphash.Seed
	sets map[uint64]*labelSet
}

type labelSet struct {
	labels map[string]string
	users  int
}

func newLabelSets() labelSets {
	return labelSets{seed: maphash.MakeSeed(), sets: make(map[uint64]*labelSet)}
}

// add is the map to use for labels; nil for none.
func (s labelSets) add(labels map[string]string) map[string]string {
	if len(labels) == 0 {
		return nil
	}
	h := s.hash(labels)
	set := s.sets[h]
	if set == nil {
		own := make(map[string]string, len(labels))
		for k, v := range labels {
			own[shared(k)] = shared(v)
		}
		s.sets[h] = &labelSet{own, 1}
		return own
	}
	if !maps.Equal(set.labels, labels) {
		return labels // another set of the same hash
	}
	set.users++
	return set.labels
}

// remove takes back one add.
func (s labelSets) remove(labels map[string]string) {
	if len(labels) == 0 {
		return
	}
	h := s.hash(labels)
	set := s.sets[h]
	if set == nil || !maps.Equal(set.labels, labels) {
		return
	}
	if set.users--; set.users == 0 {
		delete(s.sets, h)
	}
}

// hash does not depend on the order in which a map is walked.
func (s labelSets) hash(labels map[string]string) uint64 {
	var sum uint64
	for k, v := range labels {
		sum += maphash.Comparable(s.seed, [2]string{k, v})
	}
	return sum
}
