package classic

import (
	"fmt"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"longshore/internal/base/ids"
	"longshore/internal/service/build/dockerfile"
)

// Emit sends one object to the client.
type Emit func(v any) error

// Line is output of a build.
type Line struct {
	Stream string `json:"stream"`
}

// Aux is a result of a build.
type Aux struct {
	ID  string `json:"id,omitempty"`
	Aux any    `json:"aux"`
}

// ImageID is the payload of the aux object that names the built image.
type ImageID struct {
	ID string `json:"ID"`
}

// StreamOptions settle what a stream tells.
type StreamOptions struct {
	// Remove tells that containers of steps are removed.
	Remove bool
	// NewID makes the name of a container.
	NewID func() string
	// Memory remembers steps from build to build; may be nil.
	Memory *Memory
	// NoCache: no step is told as cached because it was seen before.
	NoCache bool
}

// Stream turns the builder's progress into the classic builder's text. The builder works at many steps at a time; the
// text tells them in the order of the file, so that what a later step says waits for its turn, while the step whose turn
// it is speaks live. Not safe for concurrent use.
type Stream struct {
	plan  *dockerfile.Plan
	o     StreamOptions
	emit  Emit
	total int
	steps []*step       // arguments first
	turn  int           // index of the first step that is not finished
	heads []int         // per stage of the plan: index of its FROM in steps
	image digest.Digest // set at the end

	byVertex map[digest.Digest]*step
	triggers map[int]*step // per stage: what the base image's triggers say
}

// NewStream begins the text of a plan.
func NewStream(plan *dockerfile.Plan, o StreamOptions, emit Emit) *Stream {
	s := &Stream{plan: plan, o: o, emit: emit, total: plan.Total(), byVertex: map[digest.Digest]*step{}, triggers: map[int]*step{}}
	for _, a := range plan.Arguments {
		s.steps = append(s.steps, &step{Step: a, stage: -1})
	}
	for i, st := range plan.Stages {
		s.heads = append(s.heads, len(s.steps))
		for _, x := range st.Steps {
			s.steps = append(s.steps, &step{Step: x, stage: i})
		}
	}
	return s
}

// Pulling tells the progress of the pull of one of the plan's images: at once when it is its step's turn.
func (s *Stream) Pulling(img dockerfile.Image, v any) error {
	st := s.steps[s.heads[img.Stage]+img.Step]
	st.say(v)
	return s.advance()
}

// Base tells that a stage's base image is here, by its ID and the number of its build triggers.
func (s *Stream) Base(stage int, id string, triggers int) error {
	st := s.steps[s.heads[stage]]
	st.id, st.done, st.triggers = ids.Short(strings.TrimPrefix(id, "sha256:")), true, triggers
	return s.advance()
}

// Status takes progress in.
func (s *Stream) Status(st *client.SolveStatus) error {
	for _, v := range st.Vertexes {
		s.vertex(v)
	}
	for _, l := range st.Logs {
		if step := s.byVertex[l.Vertex]; step != nil {
			step.output(l.Stream, l.Data)
		}
	}
	return s.advance()
}

func (s *Stream) vertex(v *client.Vertex) {
	st := s.byVertex[v.Digest]
	if st == nil {
		if st = s.place(v.Name); st == nil {
			return
		}
		s.byVertex[v.Digest] = st
		st.vertices = append(st.vertices, vertexState{digest: v.Digest, source: len(v.Inputs) == 0 && st.fetches()})
	}
	for i := range st.vertices {
		if x := &st.vertices[i]; x.digest == v.Digest {
			x.started = x.started || v.Started != nil
			x.completed = v.Completed != nil
			x.cached = x.cached || v.Cached
			x.failed = x.failed || v.Error != ""
		}
	}
	st.settle()
}

// place finds the step of a vertex by its name, "[stage n/m] INSTRUCTION".
func (s *Stream) place(name string) *step {
	l, ok := parseLabel(name)
	if !ok {
		return nil
	}
	for i, stage := range s.plan.Stages {
		if l.stage != stage.Name && (l.stage != "" || !s.plan.Single) {
			continue
		}
		number := l.number
		if extra := l.count - stage.Count; extra > 0 {
			first := 1 // number of the first trigger
			if s.steps[s.heads[i]].Number > 0 {
				first = 2
			}
			if number >= first && number < first+extra {
				return s.trigger(i)
			}
			if number >= first {
				number -= extra
			}
		}
		for _, st := range s.steps[s.heads[i] : s.heads[i]+len(stage.Steps)] {
			if st.Number == number && number > 0 && st.Kind != dockerfile.From {
				return st
			}
		}
		return nil
	}
	return nil
}

// trigger is the FROM step that a stage's triggers belong to.
func (s *Stream) trigger(stage int) *step {
	st := s.steps[s.heads[stage]]
	if s.triggers[stage] == nil {
		s.triggers[stage] = &step{Step: dockerfile.Step{Kind: dockerfile.Run, Text: st.Text}, stage: stage}
	}
	return s.triggers[stage]
}

// advance tells all that can be told now. The last step ends with the build: its ID is the image's.
func (s *Stream) advance() error {
	for s.turn < len(s.steps) {
		st := s.steps[s.turn]
		if err := s.tell(st); err != nil {
			return err
		}
		if !s.finished(st) || s.turn == len(s.steps)-1 {
			return nil
		}
		if err := s.close(st); err != nil {
			return err
		}
		s.turn++
	}
	return nil
}

// tell sends a step's head and what it has said since.
func (s *Stream) tell(st *step) error {
	if !st.headed {
		st.headed = true
		if err := s.lines(fmt.Sprintf("Step %d/%d : %s", s.turn+1, s.total, st.Text), "\n"); err != nil {
			return err
		}
	}
	if st.Kind == dockerfile.From && s.triggersOf(st) > 0 && s.baseDone(st) && !st.announced {
		st.announced = true
		n := s.triggersOf(st)
		words := fmt.Sprintf("# Executing %d build trigger", n)
		if n > 1 {
			words += "s"
		}
		if err := s.lines(words, "\n"); err != nil {
			return err
		}
	}
	for _, x := range []*step{st, s.triggerTurn(st)} {
		if x == nil {
			continue
		}
		if err := s.speak(x); err != nil {
			return err
		}
	}
	return nil
}

// speak sends what a step has said since.
func (s *Stream) speak(st *step) error {
	if st.Kind == dockerfile.Run && st.running && !st.named {
		st.named, st.container = true, ids.Short(s.o.NewID())
		if err := s.line(" ---> Running in " + st.container + "\n"); err != nil {
			return err
		}
	}
	for _, v := range st.said {
		if err := s.emit(v); err != nil {
			return err
		}
	}
	st.said = nil
	return nil
}

func (s *Stream) triggersOf(st *step) int {
	if st.Kind != dockerfile.From {
		return 0
	}
	return st.triggers + s.plan.Stages[st.stage].Onbuild
}

// triggerTurn is what speaks for a FROM's triggers, when the FROM itself is done.
func (s *Stream) triggerTurn(st *step) *step {
	if st.Kind != dockerfile.From || !s.baseDone(st) {
		return nil
	}
	return s.triggers[st.stage]
}

// finished tells whether a step has no more to say. A stage's steps follow each other: one is finished too when a later
// one of its stage has begun; the base image's triggers, whose number of works is not known, only then.
func (s *Stream) finished(st *step) bool {
	switch {
	case st.Kind == dockerfile.Argument:
		return true
	case st.Kind == dockerfile.From:
		return s.baseDone(st) && (s.triggersOf(st) == 0 || s.begunAfter(st))
	case st.Kind == dockerfile.Setting:
		return true // what stands before it is finished
	}
	return st.done || s.begunAfter(st)
}

func (s *Stream) baseDone(st *step) bool {
	stage := s.plan.Stages[st.stage]
	return st.done || stage.Scratch || stage.Parent >= 0
}

func (s *Stream) begunAfter(st *step) bool {
	for _, x := range s.steps[s.turn+1:] {
		if x.stage != st.stage {
			return false
		}
		if x.begun {
			return true
		}
	}
	return false
}

func (s *Stream) line(text string) error { return s.emit(Line{Stream: text}) }

func (s *Stream) lines(texts ...string) error {
	for _, t := range texts {
		if err := s.line(t); err != nil {
			return err
		}
	}
	return nil
}
