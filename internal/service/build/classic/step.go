package classic

import (
	"strings"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"

	"longshore/internal/service/build/dockerfile"
)

// step is one step of a build under way.
type step struct {
	dockerfile.Step
	stage    int // in the plan; -1: before the first FROM
	vertices []vertexState

	state
	triggers                 int    // of the base image, for a FROM
	id                       string // what " ---> " tells at the end
	container                string
	headed, announced, named bool

	said  []any     // not told yet
	spoke int       // the stream of the last of it
	rest  [3][]byte // beginnings of characters whose end has not come, by stream
}

// state sums up a step's pieces of work.
type state struct{ begun, running, done, cached, failed bool }

// vertexState is one piece of work of a step: most have one, ADD of an address has two.
type vertexState struct {
	digest                             digest.Digest
	source                             bool // fetches something; is looked at anew in every build
	started, completed, cached, failed bool
}

// settle sums up the pieces of work.
func (st *step) settle() {
	st.done, st.cached, st.running = true, true, false
	worked := false
	for _, v := range st.vertices {
		st.done = st.done && v.completed
		worked = worked || !v.source
		st.begun = st.begun || (!v.source && (v.started || v.completed))
		st.cached = st.cached && (v.cached || (v.source && len(st.vertices) > 1))
		st.running = st.running || (v.started && !v.cached)
		st.failed = st.failed || v.failed
	}
	if st.failed || !worked {
		st.done = false // the end of one that failed is told as the build's
	}
}

// fetches tells that one piece of the step's work may be to look at a distant source.
func (st *step) fetches() bool { return len(st.Text) > 3 && strings.EqualFold(st.Text[:3], "ADD") }

// maxLine bounds what goes out in one piece, in bytes.
const maxLine = 16 << 10

func (st *step) say(v any) { st.said = append(st.said, v) }

// Colours of what a step writes to its standard error.
const (
	red   = "\x1b[91m"
	plain = "\x1b[0m"
)

// output takes what a step's process wrote. Characters that come in two parts are put together.
func (st *step) output(stream int, data []byte) {
	if stream < 0 || stream > 2 {
		stream = 1
	}
	data = append(st.rest[stream], data...)
	n := whole(data)
	st.rest[stream] = append([]byte(nil), data[n:]...)
	if n == 0 {
		return
	}
	text := string(data[:n])
	if stream == 2 {
		text = red + text + plain
	}
	if last := len(st.said) - 1; last >= 0 && st.spoke == stream { // what comes in small pieces goes out in one
		if l, ok := st.said[last].(Line); ok && len(l.Stream) < maxLine {
			if stream == 2 {
				l.Stream, text = strings.TrimSuffix(l.Stream, plain), strings.TrimPrefix(text, red)
			}
			st.said[last] = Line{Stream: l.Stream + text}
			return
		}
	}
	st.spoke = stream
	st.say(Line{Stream: text})
}

// flush gives what is left of unfinished characters.
func (st *step) flush() {
	for i, rest := range st.rest {
		st.rest[i] = nil
		if len(rest) > 0 {
			st.say(Line{Stream: string(rest)})
		}
	}
}

// whole is the length of data without an unfinished character at its end.
func whole(data []byte) int {
	for i := 1; i <= utf8.UTFMax && i <= len(data); i++ {
		b := data[len(data)-i]
		if utf8.RuneStart(b) {
			if b >= utf8.RuneSelf && !utf8.FullRune(data[len(data)-i:]) {
				return len(data) - i
			}
			break
		}
	}
	return len(data)
}
