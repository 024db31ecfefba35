// SPDX-License-Identifier: Apache-2.0

package tetragon

import (
	"net/netip"
	"runtime"
	"strconv"
	"strings"

	tg "github.com/cilium/tetragon/api/v1/tetragon"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/vigie-io/vigie/internal/model"
)

// argument is a value that a probe read, in the variant that Tetragon uses for the type that the TracingPolicy gives it.
func argument(a *model.ProbeArg) *tg.KprobeArgument {
	out := &tg.KprobeArgument{Label: a.Label}
	switch a.Type {
	case "int", "int32", "sint32", "int16", "sint16", "int8", "sint8":
		out.Arg = &tg.KprobeArgument_IntArg{IntArg: int32(a.Int)}
	case "uint32", "uint16", "uint8":
		out.Arg = &tg.KprobeArgument_UintArg{UintArg: uint32(a.Int)}
	case "uint64", "ulong", "unsigned long", "size_t":
		out.Arg = &tg.KprobeArgument_SizeArg{SizeArg: uint64(a.Int)}
	case "int64", "sint64", "long":
		out.Arg = &tg.KprobeArgument_LongArg{LongArg: a.Int}
	case "string", "filename", "data_loc":
		out.Arg = &tg.KprobeArgument_StringArg{StringArg: a.Text}
	case "char_buf", "char_iovec", "const_buf", "iov_iter":
		setBytes(out, a)
	case "file", "fd", "kiocb":
		out.Arg = &tg.KprobeArgument_FileArg{FileArg: &tg.KprobeFile{Path: a.Text, Flags: pathFlags(a), Permission: permission(a.Mode)}}
	case "path", "dentry":
		out.Arg = &tg.KprobeArgument_PathArg{PathArg: &tg.KprobePath{Path: a.Text, Flags: pathFlags(a), Permission: permission(a.Mode)}}
	case "linux_binprm":
		out.Arg = &tg.KprobeArgument_LinuxBinprmArg{LinuxBinprmArg: &tg.KprobeLinuxBinprm{Path: a.Text, Flags: pathFlags(a), Permission: permission(a.Mode)}}
	case "sock", "socket", "skb", "sockaddr", "sockaddr_un":
		network(out, a)
	case "cred":
		out.Arg = &tg.KprobeArgument_ProcessCredentialsArg{ProcessCredentialsArg: withCaps(a.Creds)}
	case "capability":
		out.Arg = &tg.KprobeArgument_CapabilityArg{CapabilityArg: &tg.KprobeCapability{Value: wrapperspb.Int32(int32(a.Int)), Name: model.Cap(a.Int).String()}}
	case "kernel_cap_t":
		out.Arg = &tg.KprobeArgument_KernelCapTArg{KernelCapTArg: capHex(a)}
	case "cap_inheritable":
		out.Arg = &tg.KprobeArgument_CapInheritableArg{CapInheritableArg: capHex(a)}
	case "cap_permitted":
		out.Arg = &tg.KprobeArgument_CapPermittedArg{CapPermittedArg: capHex(a)}
	case "cap_effective":
		out.Arg = &tg.KprobeArgument_CapEffectiveArg{CapEffectiveArg: capHex(a)}
	default:
		object(out, a)
	}
	return out
}

// object is an argument of a type that names something of the kernel: as much of it as a probe carries. What has
// no variant of its own is its text or its number.
func object(out *tg.KprobeArgument, a *model.ProbeArg) {
	switch a.Type {
	case "nop":
	case "syscall64":
		abi := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
		out.Arg = &tg.KprobeArgument_SyscallId{SyscallId: &tg.SyscallId{Id: uint32(a.Int), Abi: abi}}
	case "bpf_cmd":
		out.Arg = &tg.KprobeArgument_BpfCmdArg{BpfCmdArg: tg.BpfCmd(a.Int)}
	case "bpf_attr":
		out.Arg = &tg.KprobeArgument_BpfAttrArg{BpfAttrArg: &tg.KprobeBpfAttr{ProgName: a.Text}}
	case "bpf_prog":
		out.Arg = &tg.KprobeArgument_BpfProgArg{BpfProgArg: &tg.KprobeBpfProg{ProgName: a.Text}}
	case "bpf_map":
		out.Arg = &tg.KprobeArgument_BpfMapArg{BpfMapArg: &tg.KprobeBpfMap{MapName: a.Text}}
	case "perf_event":
		out.Arg = &tg.KprobeArgument_PerfEventArg{PerfEventArg: &tg.KprobePerfEvent{KprobeFunc: a.Text}}
	case "load_info", "module":
		out.Arg = &tg.KprobeArgument_ModuleArg{ModuleArg: &tg.KernelModule{Name: a.Text}}
	case "net_device":
		out.Arg = &tg.KprobeArgument_NetDevArg{NetDevArg: &tg.KprobeNetDev{Name: a.Text}}
	case "user_namespace":
		out.Arg = &tg.KprobeArgument_UserNsArg{UserNsArg: &tg.UserNamespace{Ns: &tg.Namespace{Inum: uint32(a.Int)}}}
	case "error":
		out.Arg = &tg.KprobeArgument_ErrorArg{ErrorArg: &tg.KprobeError{Message: a.Text}}
	default:
		switch {
		case a.Text != "":
			out.Arg = &tg.KprobeArgument_StringArg{StringArg: a.Text}
		case a.Data != nil:
			setBytes(out, a)
		default:
			out.Arg = &tg.KprobeArgument_LongArg{LongArg: a.Int}
		}
	}
}

// network is an argument that has addresses.
func network(out *tg.KprobeArgument, a *model.ProbeArg) {
	source, target := a.Local, a.Remote
	family, protocol := socketFamily(a), a.Protocol
	if _, err := strconv.Atoi(protocol); err != nil && protocol != "" { // a protocol that has no name is its number
		protocol = "IPPROTO_" + strings.ToUpper(protocol)
	}
	switch a.Type {
	case "sockaddr":
		one := first(target, source)
		out.Arg = &tg.KprobeArgument_SockaddrArg{SockaddrArg: &tg.KprobeSockaddr{Family: family, Addr: address(one), Port: uint32(one.Port())}}
	case "sockaddr_un":
		out.Arg = &tg.KprobeArgument_SockaddrunArg{SockaddrunArg: &tg.KprobeSockaddrUn{Family: "AF_UNIX", Path: a.Text}}
	case "skb":
		out.Arg = &tg.KprobeArgument_SkbArg{SkbArg: &tg.KprobeSkb{Family: family, Protocol: protocol, Saddr: address(source),
			Sport: uint32(source.Port()), Daddr: address(target), Dport: uint32(target.Port())}}
	default:
		kind := map[string]string{"tcp": "SOCK_STREAM", "udp": "SOCK_DGRAM", "icmp": "SOCK_RAW"}[strings.ToLower(a.Protocol)]
		out.Arg = &tg.KprobeArgument_SockArg{SockArg: &tg.KprobeSock{Family: family, Type: kind, Protocol: protocol, Saddr: address(source),
			Sport: uint32(source.Port()), Daddr: address(target), Dport: uint32(target.Port()), Cookie: a.Cookie}}
	}
}

// socketFamily is the address family: by its number, which stands beside the addresses, else by the addresses.
func socketFamily(a *model.ProbeArg) string {
	names := map[int64]string{unix.AF_UNIX: "AF_UNIX", unix.AF_INET: "AF_INET", unix.AF_INET6: "AF_INET6", unix.AF_NETLINK: "AF_NETLINK",
		unix.AF_PACKET: "AF_PACKET", unix.AF_VSOCK: "AF_VSOCK"}
	if name := names[a.Int]; name != "" {
		return name
	}
	switch addr := first(a.Local, a.Remote).Addr(); {
	case !addr.IsValid():
		return strconv.FormatInt(a.Int, 10)
	case addr.Is4():
		return "AF_INET"
	}
	return "AF_INET6"
}

func first(a, b netip.AddrPort) netip.AddrPort {
	if a.IsValid() {
		return a
	}
	return b
}

// address is empty for none.
func address(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.Addr().String()
}

// setBytes says when the data is the beginning of something longer. How long that was stands in Int; where it does
// not, it is at least one byte more.
func setBytes(out *tg.KprobeArgument, a *model.ProbeArg) {
	if !a.Truncated {
		out.Arg = &tg.KprobeArgument_BytesArg{BytesArg: a.Data}
		return
	}
	size := max(uint64(a.Int), uint64(len(a.Data))+1)
	out.Arg = &tg.KprobeArgument_TruncatedBytesArg{TruncatedBytesArg: &tg.KprobeTruncatedBytes{BytesArg: a.Data, OrigSize: size}}
}

// pathFlags is what Tetragon says of a path whose beginning is missing.
func pathFlags(a *model.ProbeArg) string {
	if a.Truncated {
		return "unresolvedPathComponents"
	}
	return ""
}

// permission writes a mode as `ls -l` does; empty for none.
func permission(mode uint32) string {
	if mode == 0 {
		return ""
	}
	types := map[uint32]byte{unix.S_IFBLK: 'b', unix.S_IFCHR: 'c', unix.S_IFDIR: 'd', unix.S_IFIFO: 'p', unix.S_IFLNK: 'l',
		unix.S_IFREG: '-', unix.S_IFSOCK: 's'}
	var out []byte
	if t := types[mode&unix.S_IFMT]; t != 0 {
		out = append(out, t)
	}
	special := []struct {
		bit      uint32
		yes, not byte
	}{{unix.S_ISUID, 's', 'S'}, {unix.S_ISGID, 's', 'S'}, {unix.S_ISVTX, 't', 'T'}}
	for i, s := range special {
		bits := mode >> (6 - 3*i)
		for n, letter := range []byte("rwx") {
			set := bits&(4>>n) != 0
			switch {
			case n == 2 && mode&s.bit != 0 && set:
				out = append(out, s.yes)
			case n == 2 && mode&s.bit != 0:
				out = append(out, s.not)
			case set:
				out = append(out, letter)
			default:
				out = append(out, '-')
			}
		}
	}
	return string(out)
}

func capHex(a *model.ProbeArg) string {
	return string(model.AppendCapSet(nil, model.CapSet(a.Int)))
}

func withCaps(c *model.Creds) *tg.ProcessCredentials {
	if c == nil {
		return nil
	}
	out := credentials(c)
	out.Caps = &tg.Capabilities{Permitted: capabilities(c.CapPermitted), Effective: capabilities(c.CapEffective),
		Inheritable: capabilities(c.CapInheritable)}
	return out
}
