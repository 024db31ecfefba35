// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"errors"
	"reflect"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/vigie-io/vigie/internal/model"
)

// messagePrefix is the package of the API's messages.
const messagePrefix = "vigie.v1."

// provider is CEL's knowledge of types, with the fields of our messages read from the model.
type provider struct {
	types.Provider
	messages map[string]map[string]field
}

// FindStructFieldType implements types.Provider.
func (p *provider) FindStructFieldType(message, name string) (*types.FieldType, bool) {
	t, ok := p.Provider.FindStructFieldType(message, name)
	short, ours := strings.CutPrefix(message, messagePrefix)
	if !ok || !ours {
		return t, ok
	}
	f, ok := p.messages[short][name]
	if !ok {
		return nil, false
	}
	return &types.FieldType{Type: t.Type, IsSet: f.isSet, GetFrom: func(o any) (any, error) { return f.get(o), nil }}, true
}

// adapter makes CEL values of the model's.
type adapter struct {
	types.Adapter
	messages map[string]map[string]field
}

// NativeToValue implements types.Adapter.
func (a *adapter) NativeToValue(v any) ref.Val {
	switch m := v.(type) {
	case *Subject:
		return a.object(v, "Event")
	case *model.Process:
		return a.object(v, "Process")
	case *model.Workload:
		return a.object(v, "Workload")
	case *model.Creds:
		return a.object(v, "Creds")
	case *model.Namespaces:
		return a.object(v, "Namespaces")
	case *model.ExecFile:
		return a.object(v, "ExecFile")
	case []*model.Process:
		return types.NewDynamicList(a, m)
	case *model.DNSAnswer:
		return a.object(v, "DNSAnswer")
	case []*model.DNSAnswer:
		return types.NewDynamicList(a, m)
	case *model.ProbeArg:
		return a.object(v, "ProbeArg")
	case []*model.ProbeArg:
		return types.NewDynamicList(a, m)
	case *model.Exec, *model.ExecFailed, *model.Exit, *model.Credential, *model.Namespace, *model.Ptrace, *model.Module, *model.BPF,
		*model.Mount, *model.Capability, *model.File, *model.Socket, *model.DNS, *model.Flow, *model.FlowCounters, *model.Endpoint, *model.Service, *model.Controller, *model.Request, *model.Verdict, *model.Alert, *model.Probe, *model.Loss:
		return a.object(v, reflect.TypeOf(v).Elem().Name()) // these are named as in the API
	}
	return a.Adapter.NativeToValue(v)
}

func (a *adapter) object(v any, message string) ref.Val {
	return &object{v, message, a}
}

// object is a message in CEL.
type object struct {
	value   any
	message string
	adapter *adapter
}

// ConvertToNative implements ref.Val: there is nothing that a message could become.
func (o *object) ConvertToNative(reflect.Type) (any, error) {
	return nil, errors.New("a " + o.message + " converts to nothing else: use one of its fields")
}

// ConvertToType implements ref.Val.
func (o *object) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return types.NewObjectType(messagePrefix + o.message)
	}
	return types.NewErr("a %s is no %s: use one of its fields", o.message, t.TypeName())
}

// Equal implements ref.Val: a message is equal to itself.
func (o *object) Equal(other ref.Val) ref.Val {
	p, ok := other.(*object)
	return types.Bool(ok && o.value == p.value)
}

// Type implements ref.Val.
func (o *object) Type() ref.Type { return types.NewObjectType(messagePrefix + o.message) }

// Value implements ref.Val.
func (o *object) Value() any { return o.value }

// Get implements traits.Indexer, for expressions whose types are not known before they run.
func (o *object) Get(name ref.Val) ref.Val {
	f, ok := o.field(name)
	if !ok {
		return types.NewErr("no such field: %v", name)
	}
	return o.adapter.NativeToValue(f.get(o.value))
}

// IsSet implements traits.FieldTester.
func (o *object) IsSet(name ref.Val) ref.Val {
	f, ok := o.field(name)
	if !ok {
		return types.NewErr("no such field: %v", name)
	}
	return types.Bool(f.isSet(o.value))
}

func (o *object) field(name ref.Val) (field, bool) {
	s, ok := name.(types.String)
	f, found := o.adapter.messages[o.message][string(s)]
	return f, ok && found
}
