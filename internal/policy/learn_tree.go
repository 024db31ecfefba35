// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/model"
)

// The stated rules of learning (docs/policy.md). A name is a component of a path.
const (
	numberedSiblings = 3 // names of one directory that differ in their numbers only become one with [0-9]*
	siblings         = 8 // files of one directory, used in the same way, become dir/*
	subdirectories   = 3 // directories of one directory whose files all became * become dir/**, for reading only
)

// tree holds the paths that were used, by component; a component is a glob.
type tree struct {
	root  *node
	notes map[string]bool
	// What is made up anew each time, with the glob that takes its place.
	volatile []volatile
	digits   *regexp.Regexp
}

type volatile struct {
	pattern *regexp.Regexp
	glob    string
}

type node struct {
	children map[string]*node
	uses     [FileOps]uint64
	dir      bool            // it is known to be a directory
	listed   bool            // it is a directory that was listed
	gone     bool            // the workload removed it, or gave it another name: a name that does not last
	paths    map[string]bool // the different paths that are in it, at most maxPaths
	// all stands for all files of the directory that were used in one way; deep for all below it, for reading.
	all  map[access]*node
	deep *node
}

// maxPaths is how many paths are remembered of a node, to say how many there were.
const maxPaths = 1000

func (n *node) remember(path string) {
	if n.paths == nil {
		n.paths = map[string]bool{}
	}
	if len(n.paths) < maxPaths {
		n.paths[path] = true
	}
}

// sample is the first of the paths.
func (n *node) sample() string {
	first := ""
	for p := range n.paths {
		if first == "" || p < first {
			first = p
		}
	}
	return first
}

func newTree() *tree {
	return &tree{root: &node{}, notes: map[string]bool{}, digits: regexp.MustCompile(`[0-9]+`), volatile: []volatile{
		{regexp.MustCompile(`[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}`), "[0-9a-fA-F]*"}, // a UUID
		{regexp.MustCompile(`[0-9]{4}-[0-9]{2}-[0-9]{2}([T_.-]?[0-9]{2}([:.-]?[0-9]{2}){1,2})?`), "[0-9]*"},                 // a date
		{regexp.MustCompile(`^0[0-9]{3,}$`), "[0-9]*"},                                                                      // a counter with leading zeros
		{regexp.MustCompile(`[0-9]{8,}`), "[0-9]*"},                                                                         // a date without signs, a time, a large number
		{regexp.MustCompile(`[0-9a-f]{12,}`), "[0-9a-f]*"},                                                                  // a hash
		{regexp.MustCompile(`[0-9A-F]{12,}`), "[0-9A-F]*"},
	}}
}

// at is the node of a path, made where it is not there.
func (t *tree) at(path string, ev *model.Event) *node {
	n, real := t.root, ""
	for name := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		glob := t.name(real, name, ev)
		real += "/" + name
		child := n.children[glob]
		if child == nil {
			child = &node{}
			if n.children == nil {
				n.children = map[string]*node{}
			}
			n.children[glob] = child
		}
		n = child
	}
	return n
}

// add puts a path into the tree.
func (t *tree) add(op FileOp, path string, ev *model.Event, count uint64) {
	n := t.at(path, ev)
	n.uses[op] += count
	n.remember(path)
	if f := ev.File; f != nil {
		old, _ := objectPath(f.Path)
		n.gone = n.gone || (op == Modify && old == path && (f.Op == model.FileUnlink || f.Op == model.FileRename))
		n.dir = n.dir || (f.FileType == "directory" && old == path)
	}
}

// list notes a directory that was listed. Policies do not judge that, but it says that the directory is one that the
// workload knows.
func (t *tree) list(ev *model.Event) {
	if p, ok := objectPath(ev.File.Path); ok {
		n := t.at(p, ev)
		n.dir, n.listed = true, true
	}
}

// name is the glob of a name in a directory.
func (t *tree) name(dir, name string, ev *model.Event) string {
	glob := globOf(name)
	switch {
	case name == "":
		return name
	case dir == "/proc" || strings.HasPrefix(dir, "/proc/") || dir == "/dev/pts":
		if t.digits.FindString(name) == name {
			return "[0-9]*"
		}
		return glob
	case (strings.HasPrefix(dir, "/dev") && !temporary(dir)) || strings.HasPrefix(dir, "/sys"), strings.HasPrefix(name, "memfd:") && dir == "":
		return glob
	}
	for _, pid := range pids(ev) {
		if numbers := t.digits.FindAllString(name, -1); len(numbers) == 1 && numbers[0] == pid {
			before, after, _ := strings.Cut(name, pid)
			return t.joined(dir, name, before, "[0-9]*", after, 1)
		}
	}
	at, made := []int{0, 0}, "" // of the longest such part
	for _, v := range t.volatile {
		if found := v.pattern.FindStringIndex(name); found != nil && found[1]-found[0] > at[1]-at[0] {
			at, made = found, v.glob
		}
	}
	if made != "" {
		return t.joined(dir, name, name[:at[0]], made, name[at[1]:], 1)
	}
	if temporary(dir) {
		if i := randomSuffix(name); i >= 0 {
			return t.joined(dir, name, name[:i], "*", "", 3)
		}
	}
	return glob
}

// joined is a name with a glob in the place of a part. In a sensitive directory least bytes of it have to stay, else it is
// kept as it is.
func (t *tree) joined(dir, name, before, glob, after string, least int) string {
	if len(before)+len(after) < least && sensitive(dir) {
		t.notes["the name "+shown(dir+"/"+name)+" looks made up anew each time, and was kept: no rule is made for all of "+shown(dir)] = true
		return globOf(name)
	}
	return squeeze(globOf(before) + glob + globOf(after))
}

func pids(ev *model.Event) []string {
	var out []string
	for _, p := range []*model.Process{ev.Process, ev.Parent} {
		if p != nil && p.Key.PID >= 10 {
			out = append(out, strconv.Itoa(int(p.Key.PID)))
		}
	}
	return out
}

// temporary are the directories in which programs make names by chance.
func temporary(dir string) bool {
	for _, d := range []string{"/tmp", "/var/tmp", "/dev/shm"} {
		if dir == d || strings.HasPrefix(dir, d+"/") {
			return true
		}
	}
	return false
}

// randomSuffix is where the last letters of a name begin that look like those of mkstemp(3), or -1: its last part, of six
// or more letters and digits, with both of these or with both cases; of more than ten the last six.
func randomSuffix(name string) int {
	i := 1 + strings.LastIndexAny(name, ".-_")
	var digit, upper, lower bool
	for _, c := range name[i:] {
		switch {
		case c >= '0' && c <= '9':
			digit = true
		case c >= 'A' && c <= 'Z':
			upper = true
		case c >= 'a' && c <= 'z':
			lower = true
		default:
			return -1
		}
	}
	if random := digit && (upper || lower) || upper && lower; !random || len(name)-i < 6 {
		return -1
	}
	if len(name)-i > 10 { // the end of a longer word: mkstemp makes six
		i = len(name) - 6
	}
	return i
}

// globOf is a text as a glob that matches it. What a policy cannot have in it becomes '*'.
func globOf(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case badText(string(r)) != "":
			b.WriteByte('*')
		case strings.ContainsRune(`*?[\`, r):
			b.WriteByte('\\')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	return squeeze(b.String())
}

// squeeze makes one star of several: two would cross directories.
func squeeze(glob string) string {
	for strings.Contains(glob, "**") {
		glob = strings.ReplaceAll(glob, "**", "*")
	}
	return glob
}

// generalise applies the rules for names of one directory, from the root down, then for directories, from the leaves up.
func (t *tree) generalise() {
	t.number(t.root, "")
	t.gather(t.root, "")
}

// number joins names that differ in their numbers only; of one that did not last, one is enough.
func (t *tree) number(n *node, dir string) {
	shapes, enough := map[string][]string{}, map[string]bool{}
	for name, child := range n.children {
		shape := squeeze(t.digits.ReplaceAllString(name, "[0-9]*"))
		if shape == name || strings.Contains(name, "[") || depth(dir) < 1 {
			continue
		}
		if letters := len(t.digits.ReplaceAllString(name, "")); sensitive(dir) && (!temporary(dir) || letters < 3) {
			continue
		}
		shapes[shape] = append(shapes[shape], name)
		enough[shape] = enough[shape] || (child.gone && child.leaf())
	}
	for shape, names := range shapes {
		if len(names) < numberedSiblings && !enough[shape] {
			continue
		}
		slices.Sort(names)
		joined := n.children[shape]
		if joined == nil {
			joined = &node{}
		}
		for _, name := range names {
			joined.join(n.children[name])
			delete(n.children, name)
		}
		n.children[shape] = joined
	}
	for name, child := range n.children {
		t.number(child, dir+"/"+name)
	}
}

// join adds all that is in other to n.
func (n *node) join(other *node) {
	for op, count := range other.uses {
		n.uses[op] += count
	}
	for p := range other.paths {
		n.remember(p)
	}
	n.dir, n.listed, n.gone = n.dir || other.dir, n.listed || other.listed, n.gone || other.gone
	for name, child := range other.children {
		if mine := n.children[name]; mine != nil {
			mine.join(child)
			continue
		}
		if n.children == nil {
			n.children = map[string]*node{}
		}
		n.children[name] = child
	}
}

// leaf reports whether a node was used and has nothing below it.
func (n *node) leaf() bool {
	return n.access() != access{} && len(n.children)+len(n.all) == 0 && n.deep == nil
}

// gather makes dir/* of many files, and dir/** of many directories with dir/*.
func (t *tree) gather(n *node, dir string) {
	for name, child := range n.children {
		t.gather(child, dir+"/"+name)
	}
	if sensitive(dir) || depth(dir) < 2 {
		return
	}
	t.gatherLibraries(n, dir)
	n.absorb()
	byAccess := map[access][]string{}
	for name, child := range n.children {
		if child.leaf() && !child.dir && (child.access() == access{Read: true} || !system(dir)) {
			byAccess[child.access()] = append(byAccess[child.access()], name)
		}
	}
	for how, names := range byAccess {
		if len(names) < siblings {
			continue
		}
		all := &node{}
		for _, name := range names {
			all.join(n.children[name])
			delete(n.children, name)
		}
		if n.all == nil {
			n.all = map[access]*node{}
		}
		n.all[how] = all
	}
	t.gatherDirectories(n)
}

// absorb joins names with a glob that matches them anyway, where that allows no more than it did.
func (n *node) absorb() {
	for _, glob := range slices.Sorted(maps.Keys(n.children)) {
		wide := n.children[glob]
		if wide == nil || !strings.Contains(glob, "]*") || !wide.leaf() {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(n.children)) {
			one := n.children[name]
			literal := !strings.ContainsAny(name, `*?[\`)
			inside := literal && MatchPath("/"+glob, "/"+name) || strings.HasSuffix(glob, "]*") && strings.HasPrefix(name, glob)
			if name == glob || !inside || !one.leaf() || !wide.access().covers(one.access()) {
				continue
			}
			wide.join(one)
			delete(n.children, name)
		}
	}
}

// covers reports whether a allows all that b does.
func (a access) covers(b access) bool {
	for op := range b {
		if b[op] && !a[op] {
			return false
		}
	}
	return true
}

// gatherDirectories makes one rule for all that is below a directory of the rules for several of its directories. A
// directory that was itself listed is where such a rule ends: none is made above it.
func (t *tree) gatherDirectories(n *node) {
	read := access{Read: true}
	var below []*node
	for _, child := range n.children {
		if (child.all[read] != nil || child.deep != nil) && (!child.listed || n.listed) {
			below = append(below, child)
		}
	}
	if len(below) < subdirectories {
		return
	}
	n.deep = &node{}
	for _, child := range below {
		for _, one := range []*node{child.all[read], child.deep} {
			if one != nil {
				n.deep.join(one)
			}
		}
		delete(child.all, read)
		child.deep = nil
	}
}

// gatherLibraries makes one name of the shared libraries of a directory of such.
func (t *tree) gatherLibraries(n *node, dir string) {
	if !libraries(dir) {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		child := n.children[name]
		if !child.leaf() || (child.access() != access{Read: true}) {
			continue
		}
		glob := ""
		if strings.HasSuffix(name, ".so") {
			glob = "*.so"
		} else if strings.Contains(name, ".so.") {
			glob = "*.so.*"
		}
		if glob == "" || glob == name {
			continue
		}
		if n.children[glob] == nil {
			n.children[glob] = &node{}
		}
		n.children[glob].join(child)
		delete(n.children, name)
	}
}

// access is how something was used.
type access [FileOps]bool

func (n *node) access() access {
	var a access
	for op, count := range n.uses {
		a[op] = count > 0
	}
	return a
}

func depth(dir string) int { return strings.Count(dir, "/") }

// libraries reports whether a directory holds shared libraries.
func libraries(dir string) bool {
	for _, d := range []string{"/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib"} {
		if dir == d || strings.HasPrefix(dir, d+"/") {
			return true
		}
	}
	return false
}

// system reports whether a directory belongs to the system: there, rules for many files are for reading only.
func system(dir string) bool {
	for _, d := range []string{"/etc", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/boot", "/root", "/sys", "/proc", "/dev"} {
		if dir == d || strings.HasPrefix(dir, d+"/") {
			return true
		}
	}
	return false
}

// sensitive reports whether no rule is made for all files of a directory, however many were used.
func sensitive(dir string) bool {
	switch dir {
	case "", "/etc", "/root", "/home", "/boot", "/dev", "/proc", "/sys", "/run", "/var", "/var/lib", "/var/log", "/var/run", "/var/spool",
		"/var/cache", "/var/www", "/usr", "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib64", "/usr/share", "/usr/local", "/usr/local/bin", "/usr/local/sbin",
		"/bin", "/sbin", "/lib", "/lib64", "/tmp", "/var/tmp", "/dev/shm", "/opt", "/srv", "/mnt", "/media", "/proc/[0-9]*", "/proc/sys":
		return true
	}
	if rest, ok := strings.CutPrefix(dir, "/home/"); ok && !strings.Contains(rest, "/") {
		return true
	}
	for name := range strings.SplitSeq(dir, "/") {
		switch name {
		case ".ssh", ".gnupg", ".aws", ".kube", ".docker", ".config", "private", "secrets", "ssh", "sudoers.d", "pam.d", "security",
			"cron.d", "cron.daily", "cron.hourly", "crontabs", "systemd", "init.d", "profile.d", "ld.so.conf.d":
			return true
		}
	}
	return false
}
