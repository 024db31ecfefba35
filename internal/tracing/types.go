// SPDX-License-Identifier: Apache-2.0

package tracing

// class is how values of a type are kept and compared.
type class int

const (
	classNumber class = iota
	classText         // strings, paths and names
	classBytes        // buffers: compared like text
	classSock         // addresses, ports, …
	classCred         // reported, not compared
	classNone         // nop: takes its place and is not read
)

// valueType is a type of argument.
type valueType struct {
	class  class
	bits   int    // of a number
	signed bool   // of a number
	reader string // function of the library that reads it; empty for plain numbers
	caps   int    // of the capability sets of a struct cred: which, counted from 1
}

// valueTypes is all that can be read, by the name in policies.
func valueTypes() map[string]valueType {
	number := func(bits int, signed bool) valueType { return valueType{bits: bits, signed: signed} }
	text := func(reader string) valueType { return valueType{class: classText, reader: reader} }
	sock := func(reader string) valueType { return valueType{class: classSock, reader: reader} }
	return map[string]valueType{
		"int8": number(8, true), "sint8": number(8, true), "uint8": number(8, false),
		"int16": number(16, true), "sint16": number(16, true), "uint16": number(16, false),
		"int": number(32, true), "int32": number(32, true), "sint32": number(32, true), "uint32": number(32, false),
		"long": number(64, true), "int64": number(64, true), "sint64": number(64, true),
		"ulong": number(64, false), "uint64": number(64, false), "size_t": number(64, false),
		"capability": number(32, true), "bpf_cmd": number(32, true), "syscall64": number(64, false), "kernel_cap_t": number(64, false),
		"cap_effective":   {bits: 64, caps: 1},
		"cap_inheritable": {bits: 64, caps: 2},
		"cap_permitted":   {bits: 64, caps: 3},
		"user_namespace":  {bits: 32, reader: "vg_arg_user_ns"},
		"perf_event":      {bits: 32, reader: "vg_arg_perf_event"},
		"string":          text("vg_arg_text"), "data_loc": text("vg_arg_text"), "const_buf": text("vg_arg_text"),
		"filename": text("vg_arg_filename"), "fd": text("vg_arg_fd"), "file": text("vg_arg_file"), "path": text("vg_arg_path"),
		"dentry": text("vg_arg_dentry"), "kiocb": text("vg_arg_kiocb"), "linux_binprm": text("vg_arg_binprm"),
		"module": text("vg_arg_module"), "load_info": text("vg_arg_load_info"), "bpf_map": text("vg_arg_bpf_map"),
		"bpf_prog": text("vg_arg_bpf_prog"), "bpf_attr": text("vg_arg_bpf_attr"), "net_device": text("vg_arg_net_device"),
		"sockaddr_un": text("vg_arg_sockaddr_un"),
		"char_buf":    {class: classBytes, reader: "vg_arg_bytes"},
		"char_iovec":  {class: classBytes, reader: "vg_arg_iovec"},
		"sock":        sock("vg_arg_sock"), "socket": sock("vg_arg_socket"), "skb": sock("vg_arg_skb"), "sockaddr": sock("vg_arg_sockaddr"),
		"cred": {class: classCred, reader: "vg_arg_cred"},
		"nop":  {class: classNone},
	}
}

// room is how many bytes of the tail a value of the type can take.
func (t valueType) room(a *Arg) int {
	switch {
	case t.class == classText:
		return textMax
	case t.class == classBytes && a.MaxData:
		return dataMax
	case t.class == classBytes:
		return textMax
	case t.class == classSock:
		return 64
	case t.class == classCred:
		return 96
	}
	return 0
}

// ofProcess says that a value of the type is in the memory of the process, when a system call has it.
func ofProcess(name string) bool {
	switch name {
	case "string", "char_buf", "char_iovec", "sockaddr", "sockaddr_un", "bpf_attr":
		return true
	}
	return false
}

// hasFile says that a value of the type is an open file or a path, which has a file type.
func hasFile(name string) bool {
	switch name {
	case "fd", "file", "path", "dentry", "kiocb", "linux_binprm":
		return true
	}
	return false
}
