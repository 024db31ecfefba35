// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"github.com/vigie-io/vigie/internal/model"
)

// The variables that are no field of Event.
const (
	commandVariable   = "command_line" // the process's arguments, with a space between them
	calledVariable    = "called"       // the last component of the first argument: by what name the program was called
	writtenVariable   = "written_path" // of a file event that succeeded: the path at which something new is, else empty
	ancestorsVariable = "ancestors"
)

// Subject is what expressions are evaluated for: an event and what is around it. It belongs to one goroutine; Set gives
// it the next event.
type Subject struct {
	Event *model.Event
	// Boot is the beginning of the boot id, for an event whose process is not known.
	Boot string
	// Ancestors are the images that led to a process, the parent first; may be nil.
	Ancestors func(*model.Process) []*model.Process

	bare        *model.Process // of an event of which only the key is known
	commandLine string
	joined      bool // commandLine is made
	lineage     []*model.Process
	climbed     bool // lineage is made
	loops
}

// Set makes s about e.
func (s *Subject) Set(e *model.Event) {
	s.Event, s.bare, s.joined, s.climbed, s.lineage = e, nil, false, false, nil
}

// process is the event's process, with nothing but its key when no more is known.
func (s *Subject) process() *model.Process {
	if s.Event.Process != nil || s.Event.Key.IsZero() {
		return s.Event.Process
	}
	if s.bare == nil {
		s.bare = &model.Process{Key: s.Event.Key, ExecID: s.Event.Key.ExecID(s.Boot), Creds: model.Creds{LoginUID: model.NoUID}}
	}
	return s.bare
}

func (s *Subject) command() string {
	if !s.joined {
		s.commandLine, s.joined = "", true
		if p := s.Event.Process; p != nil {
			s.commandLine = strings.Join(p.Args, " ")
		}
	}
	return s.commandLine
}

func (s *Subject) written() string {
	f := s.Event.File
	switch {
	case f == nil || f.Error != 0:
		return ""
	case f.Op == model.FileRename || f.Op == model.FileLink:
		return f.NewPath
	case leavesFile(f.Op):
		return f.Path
	}
	return ""
}

// leavesFile reports whether an operation leaves something new at a path.
func leavesFile(op model.FileOp) bool {
	switch op {
	case model.FileWrite, model.FileCreate, model.FileTruncate, model.FileRename, model.FileLink:
		return true
	}
	return false
}

func (s *Subject) called() string {
	if p := s.Event.Process; p != nil && len(p.Args) > 0 {
		return base(p.Args[0])
	}
	return ""
}

func (s *Subject) ancestors() []*model.Process {
	if !s.climbed {
		s.climbed = true
		if p := s.Event.Process; p != nil && s.Ancestors != nil {
			s.lineage = s.Ancestors(p)
		}
	}
	return s.lineage
}

// variables gives CEL the names of the language for a subject. A part that is not set reads as an empty
// one, so that file.path is "" and not an error for an event that is about something else; whether it
// is set is asked with has(event.file).
type variables struct {
	language *Language
	subject  *Subject
}

// ResolveName implements cel.Activation.
func (v *variables) ResolveName(name string) (any, bool) {
	switch name {
	case "event":
		return v.subject, true
	case commandVariable:
		return v.subject.command(), true
	case calledVariable:
		return v.subject.called(), true
	case writtenVariable:
		return v.subject.written(), true
	case ancestorsVariable:
		return v.subject.ancestors(), true
	}
	if f, ok := v.language.messages["Event"][name]; ok {
		return f.get(v.subject), true
	}
	if list, ok := v.language.celLists[name]; ok {
		return list, true
	}
	if m, ok := v.language.macros[name]; ok {
		holds, err := m.Holds(v.subject)
		if err != nil {
			return types.WrapErr(err), true
		}
		return holds, true
	}
	return nil, false
}

// Parent implements cel.Activation: there is none.
func (v *variables) Parent() cel.Activation { return nil }
