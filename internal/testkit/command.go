// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"io"
	"os/exec"
	"syscall"
)

func command(argv []string, attr *syscall.SysProcAttr, out io.Writer) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr, cmd.Stdout, cmd.Stderr = attr, out, out
	return cmd
}
