package classic

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/opencontainers/go-digest"

	"longshore/internal/base/ids"
	"longshore/internal/service/build/dockerfile"
)

// close tells a step's end.
func (s *Stream) close(st *step) error {
	st.flush()
	if t := s.triggerTurn(st); t != nil {
		t.flush()
		if err := s.leave(t); err != nil {
			return err
		}
	}
	if st.Kind == dockerfile.Argument {
		return nil
	}
	if err := s.leave(st); err != nil {
		return err
	}
	before := s.before(st)
	known := s.identify(st, before)
	if s.usedCache(st, known) {
		if err := s.line(" ---> Using cache\n"); err != nil {
			return err
		}
	}
	st.done = true
	if s.image != "" && s.turn == len(s.steps)-1 {
		st.id = ids.Short(s.image.Encoded())
	}
	return s.line(" ---> " + st.id + "\n")
}

// leave tells that a step's container is gone.
func (s *Stream) leave(st *step) error {
	if err := s.speak(st); err != nil {
		return err
	}
	if st.container == "" || !s.o.Remove {
		return nil
	}
	return s.line("Removing intermediate container " + st.container + "\n")
}

// before is the step whose result a step builds on; nil for a base.
func (s *Stream) before(st *step) *step {
	if st.Kind == dockerfile.From {
		parent := s.plan.Stages[st.stage].Parent
		if parent < 0 {
			return nil
		}
		return s.steps[s.heads[parent]+len(s.plan.Stages[parent].Steps)-1]
	}
	return s.steps[s.turn-1]
}

// identify gives a step its ID: a digest of what has been asked for up to it. Steps are no images, so it names nothing;
// it tells that two builds came to the same point. It answers whether an earlier build came there.
func (s *Stream) identify(st, before *step) (known bool) {
	switch {
	case st.Kind == dockerfile.From && before != nil:
		st.id, st.cached = before.id, before.cached
		return false
	case st.Kind == dockerfile.From:
		st.cached = true
		if t := s.triggers[st.stage]; t != nil && len(t.vertices) > 0 {
			st.cached = t.cached
			st.id = chain(st.id, "triggers")
		}
		return false
	}
	st.id = chain(before.id, st.Text)
	return s.o.Memory.seen(st.id)
}

func chain(parent, text string) string {
	sum := sha256.Sum256([]byte(parent + "\x00" + text))
	return ids.Short(hex.EncodeToString(sum[:]))
}

// usedCache tells whether a step's result was there already. A setting leaves no trace in the builder's progress: it
// counts as cached when all before it was and an earlier build came to it.
func (s *Stream) usedCache(st *step, known bool) bool {
	switch {
	case st.Kind == dockerfile.From:
		return false
	case len(st.vertices) == 0 && st.Kind != dockerfile.Setting:
		st.cached = true // the same work as another step's
	case st.Kind == dockerfile.Setting:
		st.cached = known && !s.o.NoCache && s.before(st).cached
	}
	return st.cached
}

// Finish tells the end of a build that went well.
func (s *Stream) Finish(id digest.Digest, tags []string) error {
	s.image = id
	if err := s.finish(); err != nil {
		return err
	}
	if id != "" {
		if err := s.emit(Aux{Aux: ImageID{ID: id.String()}}); err != nil {
			return err
		}
	}
	if err := s.warn(); err != nil {
		return err
	}
	if id == "" {
		return nil
	}
	if err := s.line("Successfully built " + ids.Short(id.Encoded()) + "\n"); err != nil {
		return err
	}
	for _, t := range tags {
		if err := s.line("Successfully tagged " + t + "\n"); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stream) finish() error {
	for s.turn < len(s.steps) {
		st := s.steps[s.turn]
		if err := s.tell(st); err != nil {
			return err
		}
		if err := s.close(st); err != nil {
			return err
		}
		s.turn++
	}
	return nil
}

func (s *Stream) warn() error {
	if len(s.plan.Unused) == 0 {
		return nil
	}
	text := "[Warning] One or more build-args ["
	for i, name := range s.plan.Unused {
		if i > 0 {
			text += " "
		}
		text += name
	}
	return s.line(text + "] were not consumed\n")
}

// Fail tells what a build that failed at a vertex, or at a line, had said. The failed step is told even if steps before
// it are not finished.
func (s *Stream) Fail(vertex digest.Digest, line int) error {
	st := s.byVertex[vertex]
	for i, x := range s.steps {
		switch {
		case st == nil && line > 0 && x.Line == line && x.Kind != dockerfile.Argument:
			st = x
		case st != nil && st != x && st == s.triggers[x.stage] && x.Kind == dockerfile.From:
			x.done, st = true, x // a trigger's text belongs to its FROM
		}
		if st == x && i > s.turn {
			s.turn = i
		}
	}
	if s.turn >= len(s.steps) {
		return nil
	}
	now := s.steps[s.turn]
	now.flush()
	if t := s.triggers[now.stage]; t != nil && now.Kind == dockerfile.From {
		t.flush()
	}
	return s.tell(now)
}
