// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
)

// PrivilegeError says which capabilities this process lacks to observe the host.
type PrivilegeError struct{ Missing []model.Cap }

// Error names the capabilities and what to do.
func (e *PrivilegeError) Error() string {
	names := make([]string, len(e.Missing))
	for i, c := range e.Missing {
		names[i] = c.String()
	}
	return fmt.Sprintf("not allowed to load BPF programs: %s missing; run as root (sudo vigie run), or see a recorded host without privileges with `vigie run --replay FILE`",
		strings.Join(names, ", "))
}

// CheckPrivileges returns a *PrivilegeError when the process lacks a capability that every sensor needs.
func CheckPrivileges() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read the capabilities of this process: %w", err)
	}
	have := model.CapSet(data[0].Effective) | model.CapSet(data[1].Effective)<<32
	if have&(1<<unix.CAP_SYS_ADMIN) != 0 && have&(1<<unix.CAP_NET_ADMIN) != 0 {
		return nil // as before 5.8 split CAP_BPF and CAP_PERFMON off
	}
	var missing []model.Cap
	for _, c := range []model.Cap{unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_ADMIN} {
		if have&(1<<c) == 0 {
			missing = append(missing, c)
		}
	}
	if len(missing) > 0 {
		return &PrivilegeError{missing}
	}
	return nil
}
