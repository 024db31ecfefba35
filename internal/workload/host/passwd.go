// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"sync"
)

// Passwd turns uids into login names by a passwd(5) file, which it reads again when it has changed.
// Safe for concurrent use.
type Passwd struct {
	path string

	mu    sync.Mutex
	read  os.FileInfo // of the file that names was read from
	names map[uint32]string
}

// NewPasswd uses the file at path, normally /etc/passwd. The file need not exist.
func NewPasswd(path string) *Passwd { return &Passwd{path: path} }

// Name is the login name of uid, "" where the file has none.
func (p *Passwd) Name(uid uint32) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	info, err := os.Stat(p.path)
	if err != nil {
		return p.names[uid] // between two versions of the file the last one counts
	}
	changed := p.read == nil || !os.SameFile(p.read, info) || p.read.Size() != info.Size() || !p.read.ModTime().Equal(info.ModTime())
	if changed {
		if names, err := readPasswd(p.path); err == nil {
			p.read, p.names = info, names
		}
	}
	return p.names[uid]
}

func readPasswd(path string) (map[uint32]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	names := make(map[uint32]string)
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), ":", 4) // name:password:uid:…
		if len(fields) < 4 || fields[0] == "" {
			continue
		}
		uid, err := strconv.ParseUint(fields[2], 10, 32)
		if _, taken := names[uint32(uid)]; err == nil && !taken { // as getpwuid(3): the first counts
			names[uint32(uid)] = fields[0]
		}
	}
	return names, lines.Err()
}
