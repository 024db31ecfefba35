// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
)

// connect opens a unix socket. Where owner is a user, the socket must have been made by that user:
// the path leads through a directory of theirs, and could lead to another runtime.
func connect(ctx context.Context, path string, owner uint32) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil || owner == model.NoUID {
		return conn, err
	}
	uid, err := peerUID(conn)
	if err == nil && uid != owner {
		err = fmt.Errorf("socket %s was made by uid %d, not by its owner %d", path, uid, owner)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func peerUID(conn net.Conn) (uint32, error) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err == nil {
		err = credErr
	}
	if err != nil {
		return 0, fmt.Errorf("read the credentials of a socket's peer: %w", err)
	}
	return cred.Uid, nil
}
