// SPDX-License-Identifier: Apache-2.0

package l7

// detectBytes is how many bytes of a direction are looked at. A protocol that has not shown itself by then will not.
const detectBytes = 1 << 10

// detect looks for the protocol in what one direction has said, and returns what must wait.
func (c *Conn) detect(dir int, b []byte, t uint64) []byte {
	s := &c.streams[dir]
	unsure := false
	for i := range c.protocols {
		p := &c.protocols[i]
		for _, side := range []Side{Client, Server} {
			switch p.Detect(side, b, s.begins) {
			case Yes:
				return c.settle(p, dir, side, b, t)
			case Unsure:
				unsure = true
			}
		}
	}
	if unsure && len(b) < detectBytes {
		return b
	}
	// Not this direction, not now. At its next turn something else may begin.
	s.begins, s.lost, s.buf = false, true, nil
	if c.tries >= 2*maxTries {
		c.counts.Unrecognised++
		c.end()
	}
	return nil
}

// settle begins to parse: what the direction said by which the protocol was recognised, and what waits of the other.
func (c *Conn) settle(p *Protocol, dir int, side Side, b []byte, t uint64) []byte {
	c.state, c.protocol, c.parser = Understood, p.Name, p.New(c.emit, c.counts)
	c.client = dir
	if side == Server {
		c.client = 1 - dir
	}
	// What waits of the other direction came before.
	if other := &c.streams[1-dir]; len(other.buf) > 0 {
		waits := c.parse(1-dir, other.buf, other.at)
		if c.state != Understood {
			return nil
		}
		other.buf = append(other.buf[:0], waits...)
	}
	return c.parse(dir, b, t)
}
