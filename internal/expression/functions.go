// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"fmt"
	"net/netip"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/ext"
)

// functions are what the language has beside CEL's own and its string functions:
//
//	path.base()            the last component
//	path.dir()             all before it
//	path.under(DIRS)       is one of these directories, or below one; a list or a text
//	name.inDomain(DOMAINS) is one of these domains, or a name in one; a list or a text
//	address.within(NETS)   is an address of one of these networks, "10.0.0.0/8"; a list or a text
func functions() []cel.EnvOption {
	text, list := cel.StringType, cel.ListType(cel.StringType)
	binary := func(op func(string, string) (bool, error)) cel.OverloadOpt {
		return cel.BinaryBinding(func(a, b ref.Val) ref.Val { return anyOf(a, b, op) })
	}
	unary := func(op func(string) string) cel.OverloadOpt {
		return cel.UnaryBinding(func(a ref.Val) ref.Val { return types.String(op(string(a.(types.String)))) })
	}
	named := func(a, b string) (bool, error) { return inDomain(a, b), nil }
	inDir := func(a, b string) (bool, error) { return under(a, b), nil }
	return []cel.EnvOption{
		ext.Strings(),
		cel.Function("base", cel.MemberOverload("path_base", []*cel.Type{text}, text, unary(base))),
		cel.Function("dir", cel.MemberOverload("path_dir", []*cel.Type{text}, text, unary(dir))),
		cel.Function("under",
			cel.MemberOverload("path_under_text", []*cel.Type{text, text}, cel.BoolType, binary(inDir)),
			cel.MemberOverload("path_under_list", []*cel.Type{text, list}, cel.BoolType, binary(inDir))),
		cel.Function("inDomain",
			cel.MemberOverload("name_in_domain_text", []*cel.Type{text, text}, cel.BoolType, binary(named)),
			cel.MemberOverload("name_in_domain_list", []*cel.Type{text, list}, cel.BoolType, binary(named))),
		cel.Function("within",
			cel.MemberOverload("address_within_text", []*cel.Type{text, text}, cel.BoolType, binary(within)),
			cel.MemberOverload("address_within_list", []*cel.Type{text, list}, cel.BoolType, binary(within))),
	}
}

// anyOf applies op to a and each of b, a text or a list of them.
func anyOf(a, b ref.Val, op func(string, string) (bool, error)) ref.Val {
	s := string(a.(types.String))
	list, ok := b.(traits.Lister)
	if !ok {
		holds, err := op(s, string(b.(types.String)))
		if err != nil {
			return types.WrapErr(err)
		}
		return types.Bool(holds)
	}
	for it := list.Iterator(); it.HasNext() == types.True; {
		e, _ := it.Next().(types.String)
		holds, err := op(s, string(e))
		if err != nil {
			return types.WrapErr(err)
		}
		if holds {
			return types.True
		}
	}
	return types.False
}

func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

func dir(path string) string {
	switch i := strings.LastIndexByte(path, '/'); i {
	case -1:
		return ""
	case 0:
		return "/"
	default:
		return path[:i]
	}
}

// under reports whether path is dir or below it.
func under(path, dir string) bool {
	dir = strings.TrimSuffix(dir, "/")
	return strings.HasPrefix(path, dir) && (len(path) == len(dir) || path[len(dir)] == '/')
}

// within reports whether an address belongs to a network; "" belongs to none.
func within(address, network string) (bool, error) {
	n, err := parseNetwork(network)
	if err != nil {
		return false, err
	}
	a, err := netip.ParseAddr(address)
	return err == nil && n.Contains(a.Unmap().WithZone("")), nil
}

func parseNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is no network: write 10.0.0.0/8 or 10.0.0.1", s)
	}
	return p.Masked(), nil
}
