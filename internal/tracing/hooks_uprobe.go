// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// uprobeCandidates: functions of a program, by the registers at their beginning.
func (c *compiler) uprobeCandidates(r *request) []candidate {
	u := r.uprobe
	if skip := c.checkDigest(r); skip {
		return []candidate{{carrier: "none: the program is another one, which the policy ignores", target: u.Path}}
	}
	exe, err := link.OpenExecutable(u.Path)
	if err != nil {
		c.fail(r.path+".path", "%v", err)
		return nil
	}
	out := candidate{carrier: "uprobe", target: u.Path, names: uprobeNames(u)}
	c.src = registerSource{}
	c.checkValues(nil)
	if r.returns {
		out.carrier = "uprobe + uretprobe"
		exit := c.fork()
		p := exit.program(ebpf.ProgramSpec{Type: ebpf.Kprobe},
			exit.exit(func(b *builder, dst asm.Register) { b.emit(asm.LoadMem(dst, regCtx, returnRegister, asm.DWord)) }))
		p.attach = func(prog *ebpf.Program) ([]link.Link, error) { return attachUprobes(u, prog, exe.Uretprobe) }
		out.programs = append(out.programs, p)
		c.errs = append(c.errs, exit.errs...)
	}
	f := c.fork()
	f.site = cookieSite
	p := f.program(ebpf.ProgramSpec{Type: ebpf.Kprobe}, f.entry())
	p.attach = func(prog *ebpf.Program) ([]link.Link, error) { return attachUprobes(u, prog, exe.Uprobe) }
	out.programs = append(out.programs, p)
	c.errs = append(c.errs, f.errs...)
	return []candidate{out}
}

func uprobeNames(u *UprobeSpec) []string {
	names := slices.Clone(u.Symbols)
	for _, o := range slices.Concat(u.Offsets, u.Addrs) {
		names = append(names, fmt.Sprintf("%#x", o))
	}
	return names
}

// attachUprobes attaches one program to all places, each with its number as the cookie.
func attachUprobes(u *UprobeSpec, p *ebpf.Program, attach func(string, *ebpf.Program, *link.UprobeOptions) (link.Link, error)) ([]link.Link, error) {
	var links []link.Link
	for i, name := range uprobeNames(u) {
		o := &link.UprobeOptions{Cookie: uint64(i)}
		symbol := name
		switch {
		case i < len(u.Symbols):
		case len(u.Offsets) > 0:
			symbol, o.Address = "", u.Offsets[i]
		default:
			offset, err := fileOffset(u.Path, u.Addrs[i])
			if err != nil {
				return links, err
			}
			symbol, o.Address = "", offset
		}
		if i < len(u.RefCtrOffsets) {
			o.RefCtrOffset = u.RefCtrOffsets[i]
		}
		l, err := attach(symbol, p, o)
		if err != nil {
			return links, fmt.Errorf("%s of %s: %w", name, u.Path, err)
		}
		links = append(links, l)
	}
	return links, nil
}

// checkDigest compares the program with the digests that the policy allows; skip says to go on without the hook.
func (c *compiler) checkDigest(r *request) (skip bool) {
	u := r.uprobe
	if len(u.BinaryDigests) == 0 {
		return false
	}
	digest, err := digestOf(u.Path)
	if err != nil {
		c.fail(r.path+".path", "%v", err)
		return false
	}
	for i, want := range u.BinaryDigests {
		hexDigits, ok := strings.CutPrefix(want, "sha256:")
		if !ok {
			c.fail(fmt.Sprintf("%s.binaryDigests[%d]", r.path, i), "%q is no digest: sha256: and hexadecimal digits are wanted", want)
			continue
		}
		if strings.EqualFold(hexDigits, digest) {
			return false
		}
	}
	if u.Ignore != nil && u.Ignore.DigestVerificationFailure {
		return true
	}
	c.fail(r.path+".binaryDigests", "the program's digest is sha256:%s, which is not listed", digest)
	return false
}

func digestOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

var errNoSegment = errors.New("no part of the file is loaded at this address")
