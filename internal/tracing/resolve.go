// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// step is one move along a chain of members: an offset, then the pointer there.
type step struct {
	offset int32
	follow bool // read the pointer that is there; else its place is the value's
}

// walk follows a chain from what is in R3. With size, what is at its end is a number of that many bytes and is read; without,
// R3 is the address that the type's reader wants.
func (c *compiler) walk(chain []step, size int) {
	for _, s := range chain {
		if s.offset != 0 {
			c.emit(asm.Add.Imm(asm.R3, s.offset))
		}
		if s.follow {
			c.fetch(8)
		}
	}
	if size > 0 {
		c.fetch(size)
	}
}

// fetch puts what R3 points to into R3; zero when it cannot be read.
func (c *compiler) fetch(size int) {
	c.emit(asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.RFP, -8, asm.R1, asm.DWord), asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, -8), asm.Mov.Imm(asm.R2, int32(size)),
		asm.FnProbeReadKernel.Call(), asm.LoadMem(asm.R3, asm.RFP, -8, asm.DWord))
}

// member is a name with an index or none.
func member(part string) (name string, index int, err error) {
	m := regexp.MustCompile(`^(\w*)(?:\[(\d+)\])?$`).FindStringSubmatch(part)
	if m == nil || m[1] == "" && m[2] == "" {
		return "", 0, fmt.Errorf("%q is no member: write names with dots between them, and [N] for an element", part)
	}
	index = -1
	if m[2] != "" {
		if index, err = strconv.Atoi(m[2]); err != nil {
			return "", 0, err
		}
	}
	return m[1], index, nil
}

// resolve finds the chain from a value of type t along path. It returns the chain and what it ends at.
func resolve(t btf.Type, path string) ([]step, btf.Type, error) {
	var chain []step
	place := step{} // where the walk is, relative to the last pointer
	for part := range strings.SplitSeq(path, ".") {
		name, index, err := member(part)
		if err != nil {
			return nil, nil, err
		}
		if name != "" {
			if p, ok := btf.UnderlyingType(t).(*btf.Pointer); ok {
				if len(chain) > 0 || place.offset > 0 { // the first pointer is the value itself
					chain, place = append(chain, step{place.offset, true}), step{}
				}
				t = p.Target
			}
			off, typ, err := findMember(t, name)
			if err != nil {
				return nil, nil, err
			}
			place.offset, t = place.offset+int32(off), typ
		}
		if index >= 0 {
			switch e := btf.UnderlyingType(t).(type) {
			case *btf.Array:
				size, err := btf.Sizeof(e.Type)
				if err != nil {
					return nil, nil, err
				}
				place.offset, t = place.offset+int32(size*index), e.Type
			case *btf.Pointer:
				size, err := btf.Sizeof(e.Target)
				if err != nil {
					return nil, nil, err
				}
				chain, place = append(chain, step{place.offset, true}), step{offset: int32(size * index)}
				t = e.Target
			default:
				return nil, nil, fmt.Errorf("%q is no array", part)
			}
		}
	}
	return append(chain, place), t, nil
}

// findMember finds a member of a struct or union, also in anonymous ones inside. Offsets are in bytes.
func findMember(t btf.Type, name string) (uint32, btf.Type, error) {
	var members []btf.Member
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		members = t.Members
	case *btf.Union:
		members = t.Members
	default:
		return 0, nil, fmt.Errorf("there is no member %q in what is no struct (%s)", name, t.TypeName())
	}
	for _, m := range members {
		if m.Name == name {
			if m.BitfieldSize > 0 {
				return 0, nil, fmt.Errorf("%q is a bit field, which cannot be read", name)
			}
			return m.Offset.Bytes(), m.Type, nil
		}
		if m.Name == "" {
			if off, typ, err := findMember(m.Type, name); err == nil {
				return m.Offset.Bytes() + off, typ, nil
			}
		}
	}
	return 0, nil, fmt.Errorf("struct %s has no member %q on this kernel", t.TypeName(), name)
}

var errNoTypes = errors.New("the types of what this hook has are not known: resolve needs a function, a raw tracepoint or current_task")

// resolveValue plans how a value with `resolve` is found from t, what the hook has.
func (c *compiler) resolveValue(v *value, t btf.Type) {
	a := v.arg
	if a.BTFTypeModule != "" {
		c.fail(v.path+".btfTypeModule", "types of modules are not read; those of the kernel itself are")
		return
	}
	if v.task || a.BTFType != "" {
		name := a.BTFType
		if v.task {
			name = "task_struct"
		}
		var s *btf.Struct
		if err := c.env.types.TypeByName(name, &s); err != nil {
			c.fail(v.path+".btfType", "this kernel has no struct %s", name)
			return
		}
		t = &btf.Pointer{Target: s}
	}
	if a.Resolve == "" {
		return
	}
	if t == nil {
		c.fail(v.path+".resolve", "%v", errNoTypes)
		return
	}
	chain, end, err := resolve(t, a.Resolve)
	if err != nil {
		c.fail(v.path+".resolve", "%v", err)
		return
	}
	v.chain = chain
	if a.Type == "auto" {
		if a.Type = typeOf(end); a.Type == "" {
			c.fail(v.path+".type", "what %s ends at has no type of its own here: give one", a.Resolve)
			return
		}
		v.typ = valueTypes()[a.Type]
	}
	_, pointer := btf.UnderlyingType(end).(*btf.Pointer)
	switch {
	case v.typ.reader == "" && v.typ.caps == 0:
		v.size = v.typ.bits / 8
	case pointer || v.typ.reader == "vg_arg_fd":
		v.size = 8
	}
}

// typeOf is the policy's name for a type of the kernel, or nothing.
func typeOf(t btf.Type) string {
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Int:
		return intName(t.Size, t.Encoding == btf.Signed)
	case *btf.Enum:
		return intName(t.Size, true)
	case *btf.Array:
		if i, ok := btf.UnderlyingType(t.Type).(*btf.Int); ok && i.Size == 1 {
			return "string"
		}
	case *btf.Pointer:
		switch to := btf.UnderlyingType(t.Target).(type) {
		case *btf.Int:
			if to.Size == 1 {
				return "string"
			}
		case *btf.Struct:
			switch to.Name {
			case "file", "path", "dentry", "filename", "sock", "socket", "sockaddr", "cred", "linux_binprm", "module", "load_info",
				"user_namespace", "perf_event", "bpf_map", "bpf_prog", "net_device", "kiocb":
				return to.Name
			case "sk_buff":
				return "skb"
			}
		}
	}
	return ""
}

func intName(size uint32, signed bool) string {
	name := "int" + strconv.Itoa(int(size)*8)
	if !signed {
		name = "u" + name
	}
	if _, ok := valueTypes()[name]; !ok {
		return ""
	}
	return name
}
