// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"math"
	"reflect"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/vigie-io/vigie/internal/posture/object"
)

// names are variables by their name, with room for the values of all of them.
type names struct {
	of map[string]*variable
	n  int // the largest index and one
}

func (n *names) add(v *variable) {
	if n.of == nil {
		n.of = map[string]*variable{}
	}
	n.of[v.name] = v
	n.n = max(n.n, v.index+1)
}

// values are variables as CEL's "variables". Each is evaluated when an expression first uses it.
type values struct {
	at      *activation
	names   *names
	made    []ref.Val
	costs   []int64 // of those that were evaluated and counted
	counted bool
	shared  *values // has those that are no policy's own; nil: all are made here
}

func newValues(at *activation, n *names) *values {
	return &values{at: at, names: n, made: make([]ref.Val, n.n), costs: make([]int64, n.n)}
}

var _ traits.Mapper = (*values)(nil)

// Find implements traits.Mapper.
func (v *values) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key), true
	}
	known, ok := v.names.of[string(name)]
	if !ok {
		return nil, false
	}
	if v.shared != nil && !known.ownParams {
		return v.shared.Find(key)
	}
	if have := v.made[known.index]; have != nil {
		return have, true
	}
	out := v.evaluate(known)
	v.made[known.index] = out
	return out, true
}

// evaluate has the words of the API server for what goes wrong.
func (v *values) evaluate(known *variable) ref.Val {
	if known.err != nil {
		return types.NewErr("composited variable %q fails to compile: %v", known.name, known.err)
	}
	if !v.counted && known.cheap(v.at.size) {
		out, _, err := known.plain.Eval(v.at)
		if err != nil {
			return types.NewErr("composited variable %q fails to evaluate: %v", known.name, err)
		}
		return out
	}
	counting, err := known.counting()
	if err != nil {
		return types.NewErr("composited variable %q fails to compile: %v", known.name, err)
	}
	out, details, err := counting.ContextEval(v.at.session.ctx, v.at)
	if details == nil || details.ActualCost() == nil {
		return types.NewErr("unable to calculate cost of variable %q", known.name)
	}
	known.counts(v.at.size, *details.ActualCost())
	v.costs[known.index] = clamp(*details.ActualCost())
	if err != nil {
		return types.NewErr("composited variable %q fails to evaluate: %v", known.name, err)
	}
	return out
}

// cost is what a variable took; 0 when it was not counted.
func (v *values) cost(known *variable) int64 {
	if v.shared != nil && !known.ownParams {
		return v.shared.costs[known.index]
	}
	return v.costs[known.index]
}

// cheap reports whether an expression cannot reach the limit on an object of this size.
func (p *program) cheap(size object.Size) bool {
	return p.plain != nil && onCost == nil && p.bound.cost(size) < plainLimit
}

// onCost is a test's: all expressions are counted then, and it is told by how much.
var onCost func(text string, bound float64, cost uint64)

func (p *program) counts(size object.Size, cost uint64) {
	if onCost != nil && p.bound.ok {
		onCost(p.text, p.bound.cost(size), cost)
	}
}

func clamp(cost uint64) int64 { return int64(min(cost, math.MaxInt64)) }

// Get implements traits.Indexer.
func (v *values) Get(key ref.Val) ref.Val {
	if out, ok := v.Find(key); ok {
		return out
	}
	return types.ValOrErr(key, "no such key: %v", key)
}

// Contains implements traits.Container.
func (v *values) Contains(key ref.Val) ref.Val {
	out, found := v.Find(key)
	if out != nil && types.IsUnknownOrError(out) {
		return out
	}
	return types.Bool(found)
}

// Size implements traits.Sizer.
func (v *values) Size() ref.Val { return types.Int(len(v.made)) }

// Iterator implements traits.Iterable: policies cannot go through all variables.
func (v *values) Iterator() traits.Iterator {
	return types.NewStringList(types.DefaultTypeAdapter, nil).Iterator()
}

// ConvertToNative implements ref.Val.
func (v *values) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("variables cannot become a %s", t)
}

// ConvertToType implements ref.Val.
func (v *values) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return types.MapType
	}
	return types.NewErr("variables cannot become a %s", t.TypeName())
}

// Equal implements ref.Val.
func (v *values) Equal(other ref.Val) ref.Val { return types.Bool(other == ref.Val(v)) }

// Type implements ref.Val.
func (v *values) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (v *values) Value() any { return v }
