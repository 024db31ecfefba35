// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/agent"
	"github.com/vigie-io/vigie/internal/kernel"
)

// NewCleanup is `vigie cleanup`: the end of an installation on a host. `vigie uninstall` has it done on every node.
func NewCleanup(env Env) *cobra.Command {
	root, wait := "/", false
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Remove what an agent left on this host: programs in the kernel, history, sockets",
		Long: "Remove what an agent with the default directories left on this host when it ended: pins of programs and maps in " + kernel.HandoverDir + ",\n" +
			"history and state in " + agent.DefaultStateDir + ", sockets in " + filepath.Dir(agent.DefaultSocket) + ". It refuses while an agent runs.\n" +
			"Configuration in /etc/vigie stays.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if wait {
				<-cmd.Context().Done()
				return nil
			}
			return cleanup(cmd.Context(), env, root)
		},
	}
	cmd.Flags().StringVar(&root, "root", root, "where the host's root is")
	cmd.Flags().BoolVar(&wait, "wait", false, "do nothing until it is ended, as a container that must not end")
	_ = cmd.Flags().MarkHidden("wait") // it exists
	return cmd
}

func cleanup(_ context.Context, env Env, root string) error {
	lock, err := os.Open(filepath.Join(root, agent.DefaultLockFile))
	if err == nil {
		defer lock.Close()
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			return Cannot(errors.New("an agent runs on this host: stop it first"))
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Cannot(fmt.Errorf("see whether an agent runs: %w", err))
	}
	var errs []error
	for _, dir := range []string{kernel.HandoverDir, agent.DefaultStateDir, filepath.Dir(agent.DefaultSocket)} {
		dir = filepath.Join(root, dir)
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", dir, err))
			continue
		}
		fmt.Fprintf(env.Out, "%s removed\n", dir)
	}
	return errors.Join(errs...)
}
