// SPDX-License-Identifier: Apache-2.0

package netpol

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/model"
)

// Class is who an address belongs to, as far as policies can tell. Number 0 is what is no pod and no node.
type Class struct {
	Number  uint32
	Inside  bool            // it is a pod or a node
	matched []uint32        // numbers of matchers, sorted
	ports   []model.PodPort // that policies name
}

// matcher is a Peer that is not told by its address.
type matcher struct {
	number uint32
	*Peer
}

// matcher is the matcher of a peer; nil for addresses and names.
func (c *Compiler) matcher(p *Peer) *matcher {
	var text string
	switch {
	case p.Pods != nil:
		text = p.Pods.String()
	case p.Nodes != nil:
		text = "nodes " + p.Nodes.String()
	case p.Entity != "":
		text = "entity " + string(p.Entity)
	default:
		return nil
	}
	n, ok := c.matchers[text]
	if !ok {
		n = uint32(len(c.matchers)) + 1
		c.matchers[text] = n
	}
	return &matcher{n, p}
}

// key is where a matcher is looked for: pods are asked about selectors that want one of their labels, and few others.
func (m *matcher) key() string {
	if m.Pods == nil {
		return ""
	}
	for _, r := range m.Pods.Pods {
		if r.Op == In && len(r.Values) == 1 {
			return "label " + m.Pods.Namespace + "\x00" + r.Key + "\x00" + r.Values[0]
		}
	}
	return "pods " + m.Pods.Namespace
}

// ClassOfPod is the class of a pod's addresses. One in its node's network has none: they are the node's.
func (w *World) ClassOfPod(p *model.Pod) *Class {
	ports := portsNamed(p.Ports, w.names)
	what := podKey(p, ports)
	if c := w.pods[what]; c != nil {
		return c
	}
	namespace := w.labels(p.Namespace)
	var matched []uint32
	look := func(key string) {
		for _, m := range w.byLabel[key] {
			if m.Pods.selects(p.Namespace, namespace, p.Labels) {
				matched = append(matched, m.number)
			}
		}
	}
	for _, in := range []string{"", p.Namespace} {
		look("pods " + in)
		for k, v := range p.Labels {
			look("label " + in + "\x00" + k + "\x00" + v)
		}
	}
	c := w.class(true, w.entities(matched, EntityAll, EntityCluster), ports)
	w.pods[what] = c
	return c
}

// podKey is the same for pods that no selector can tell apart.
func podKey(p *model.Pod, ports []model.PodPort) string {
	var b strings.Builder
	b.WriteString(p.Namespace)
	for _, k := range slices.Sorted(maps.Keys(p.Labels)) {
		b.WriteByte(0)
		b.WriteString(k)
		b.WriteByte(0)
		b.WriteString(p.Labels[k])
	}
	if len(ports) > 0 {
		fmt.Fprint(&b, ports)
	}
	return b.String()
}

// ClassOfNode is the class of a node's addresses. host: it is this one. apiServer: the API server answers there.
func (w *World) ClassOfNode(n *model.ClusterNode, host, apiServer bool) *Class {
	var matched []uint32
	if n != nil {
		for _, m := range w.byLabel[""] {
			if m.Nodes != nil && m.Nodes.Matches(n.Labels) {
				matched = append(matched, m.number)
			}
		}
	}
	entity := EntityRemoteNode
	if host {
		entity = EntityHost
	}
	return w.class(true, w.entities(matched, serves(apiServer, EntityAll, EntityCluster, entity)...), nil)
}

func serves(apiServer bool, e ...Entity) []Entity {
	if apiServer {
		return append(e, EntityKubeAPIServer)
	}
	return e
}

// Outside is the class of what is no pod and no node.
func (w *World) Outside(apiServer bool) *Class {
	matched := w.entities(nil, serves(apiServer, EntityAll, EntityWorld)...)
	if !apiServer {
		return &Class{matched: matched}
	}
	return w.class(false, matched, nil)
}

func (w *World) entities(matched []uint32, entities ...Entity) []uint32 {
	for _, m := range w.byLabel[""] {
		if m.Entity != "" && slices.Contains(entities, m.Entity) {
			matched = append(matched, m.number)
		}
	}
	return matched
}

// class is the class with these properties; the same number for the same ones in all worlds of a compiler.
func (w *World) class(inside bool, matched []uint32, ports []model.PodPort) *Class {
	slices.SortFunc(matched, cmp.Compare)
	key := fmt.Sprint(inside, matched, ports)
	c := w.compiler.classes[key]
	if c == nil {
		w.compiler.next++
		c = &Class{Number: w.compiler.next, Inside: inside, matched: matched, ports: ports}
		w.compiler.classes[key] = c
	}
	return c
}
