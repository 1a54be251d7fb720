package dockerfile

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"longshore/internal/core/fault"
)

// DefaultName is the Dockerfile's name when a request names none.
const DefaultName = "Dockerfile"

// Read makes the plan of a Dockerfile. What is wrong with the text is an invalid argument that names line and column.
func Read(text []byte, o Options) (*Plan, error) {
	if o.Name == "" {
		o.Name = DefaultName
	}
	if len(text) == 0 {
		return nil, fault.Invalid("the Dockerfile (%s) cannot be empty", o.Name)
	}
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, syntaxError(text, err)
	}
	stages, args, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return nil, syntaxError(text, err)
	}
	if len(stages) == 0 {
		return nil, fault.Invalid("no build stage in current context")
	}
	target, err := findTarget(stages, o.Target)
	if err != nil {
		return nil, err
	}
	r := reader{o: o, text: text, stages: stages[:target+1], lex: shell.NewLex(parsed.EscapeToken), env: newEnv(o, stageName(stages, target))}
	if err := r.arguments(args); err != nil {
		return nil, err
	}
	p := &Plan{Arguments: argumentSteps(args), Single: len(stages) == 1}
	if target+1 < len(stages) {
		p.End = line(stages[target+1].Location)
	}
	if err := r.fill(p); err != nil {
		return nil, err
	}
	p.Unused = r.unused(stages, args)
	return p, nil
}

func findTarget(stages []instructions.Stage, name string) (int, error) {
	if name == "" {
		return len(stages) - 1, nil
	}
	if i, ok := instructions.HasStage(stages, name); ok {
		return i, nil
	}
	if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(stages) {
		return i, nil
	}
	return 0, fault.Invalid("target stage %q could not be found", name)
}

// stageName is how the builder's progress calls a stage of a file with more than one.
func stageName(stages []instructions.Stage, i int) string {
	if n := stages[i].Name; n != "" {
		return n
	}
	return "stage-" + strconv.Itoa(i)
}

func line(where []parser.Range) int {
	if len(where) == 0 {
		return 0
	}
	return where[0].Start.Line
}

func argumentSteps(args []instructions.ArgCommand) []Step {
	var out []Step
	for _, a := range args {
		out = append(out, Step{Kind: Argument, Text: a.String(), Line: line(a.Location())})
	}
	return out
}

type reader struct {
	o      Options
	text   []byte
	stages []instructions.Stage // up to the target
	lex    *shell.Lex
	env    env
}

// arguments takes the values of ARGs before the first FROM, which FROMs may use.
func (r *reader) arguments(args []instructions.ArgCommand) error {
	for _, a := range args {
		for _, kv := range a.Args {
			v, given := r.o.Args[kv.Key]
			switch {
			case given && v != nil:
				r.env[kv.Key] = *v
			case kv.Value != nil:
				word, _, err := r.lex.ProcessWord(*kv.Value, r.env)
				if err != nil {
					return r.at(err, a.Location())
				}
				r.env[kv.Key] = word
			}
		}
	}
	return nil
}

func (r *reader) at(err error, where []parser.Range) error {
	return syntaxError(r.text, parser.WithLocation(err, where))
}

// fill enters the stages that the target needs and the images that they need.
func (r *reader) fill(p *Plan) error {
	bases := make([]string, len(r.stages))
	for i, s := range r.stages {
		word, _, err := r.lex.ProcessWord(s.BaseName, r.env)
		if err != nil {
			return r.at(err, s.Location)
		}
		if word == "" {
			return r.at(fmt.Errorf("base name (%s) should not be blank", s.BaseName), s.Location)
		}
		bases[i] = word
	}
	needed := r.needed(bases)
	index := map[int]int{} // stage of the file to stage of the plan
	for i := range r.stages {
		if !needed[i] {
			continue
		}
		index[i] = len(p.Stages)
		st, err := r.stage(i, bases[i], index)
		if err != nil {
			return err
		}
		p.Stages = append(p.Stages, st)
		if err := r.images(p, i, bases[i]); err != nil {
			return err
		}
	}
	return nil
}

// needed marks the stages that the target is made of.
func (r *reader) needed(bases []string) []bool {
	out := make([]bool, len(r.stages))
	todo := []int{len(r.stages) - 1}
	for len(todo) > 0 {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if i < 0 || out[i] {
			continue
		}
		out[i] = true
		todo = append(todo, r.named(bases[i], i, false))
		for _, c := range r.stages[i].Commands {
			for _, from := range sources(c) {
				todo = append(todo, r.named(from, i, true))
			}
		}
	}
	return out
}

// named finds the stage before stage i that has the name, -1 when there is none; numbers count for COPY --from.
func (r *reader) named(name string, i int, numbers bool) int {
	for j := i - 1; j >= 0; j-- {
		if r.stages[j].Name != "" && strings.EqualFold(r.stages[j].Name, name) {
			return j
		}
	}
	if n, err := strconv.Atoi(name); err == nil && numbers && n >= 0 && n < i {
		return n
	}
	return -1
}

// sources are the stages or images whose files an instruction takes.
func sources(c instructions.Command) []string {
	switch c := c.(type) {
	case *instructions.CopyCommand:
		if c.From != "" {
			return []string{c.From}
		}
	case *instructions.RunCommand:
		var out []string
		for _, m := range instructions.GetMounts(c) {
			if m.From != "" {
				out = append(out, m.From)
			}
		}
		return out
	}
	return nil
}

func (r *reader) stage(i int, base string, index map[int]int) (Stage, error) {
	s := r.stages[i]
	out := Stage{Name: stageName(r.stages, i), Parent: -1, Scratch: base == "scratch"}
	first := Step{Kind: From, Text: s.SourceCode, Line: line(s.Location)}
	if j := r.named(base, i, false); j >= 0 {
		out.Parent = index[j]
		for _, c := range r.stages[j].Commands {
			if _, ok := c.(*instructions.OnbuildCommand); ok {
				out.Onbuild++
			}
		}
	} else if !out.Scratch {
		out.Base, out.Count, first.Number = base, 1, 1
	}
	out.Steps = append(out.Steps, first)
	for _, c := range s.Commands {
		text, ok := c.(fmt.Stringer)
		if !ok {
			return Stage{}, r.at(fmt.Errorf("unknown instruction: %s", c.Name()), c.Location())
		}
		step := Step{Kind: kind(c), Text: text.String(), Line: line(c.Location())}
		if step.Kind != Setting {
			out.Count++
			step.Number = out.Count
		}
		out.Steps = append(out.Steps, step)
	}
	if i == len(r.stages)-1 {
		for _, k := range slices.Sorted(maps.Keys(r.o.Labels)) {
			out.Steps = append(out.Steps, Step{Kind: Setting, Text: "LABEL " + k + "=" + r.o.Labels[k]})
		}
	}
	return out, nil
}

// images enters the images that stage i of the file, the plan's last, needs.
func (r *reader) images(p *Plan, i int, base string) error {
	last := len(p.Stages) - 1
	s := r.stages[i]
	if st := p.Stages[last]; st.Parent < 0 && !st.Scratch {
		platform := r.o.Platform
		if s.Platform != "" {
			word, _, err := r.lex.ProcessWord(s.Platform, r.env)
			if err == nil {
				platform, err = parsePlatform(word)
			}
			if err != nil {
				return r.at(fmt.Errorf("failed to parse platform %s: %w", s.Platform, err), s.Location)
			}
		}
		p.need(Image{Ref: base, Platform: platform, Stage: last})
	}
	for k, c := range s.Commands {
		for _, from := range sources(c) {
			if r.named(from, i, true) < 0 && !strings.EqualFold(from, "scratch") && !strings.EqualFold(from, "context") {
				p.need(Image{Ref: from, Platform: r.o.Platform, Stage: last, Step: k + 1})
			}
		}
	}
	return nil
}

func (p *Plan) need(img Image) {
	for _, have := range p.Images {
		if have.Ref == img.Ref && platformText(have.Platform) == platformText(img.Platform) {
			return
		}
	}
	p.Images = append(p.Images, img)
}

// unused are the build arguments that nothing takes.
func (r *reader) unused(stages []instructions.Stage, args []instructions.ArgCommand) []string {
	taken := map[string]bool{}
	for _, a := range args {
		for _, kv := range a.Args {
			taken[kv.Key] = true
		}
	}
	for _, s := range stages {
		for _, c := range s.Commands {
			if a, ok := c.(*instructions.ArgCommand); ok {
				for _, kv := range a.Args {
					taken[kv.Key] = true
				}
			}
		}
	}
	var out []string
	for k := range r.o.Args {
		if !taken[k] && !builtIn(k) {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

// syntaxError names line and column of what is wrong in the text.
func syntaxError(text []byte, err error) error {
	where := 0
	var le *parser.LocationError
	if errors.As(err, &le) && len(le.Locations) > 0 {
		where = line(le.Locations[0])
	}
	words := err.Error()
	if prefix, rest, ok := strings.Cut(words, ": "); ok && strings.HasPrefix(prefix, "dockerfile parse error on line ") {
		words = rest
	}
	if where == 0 {
		return fault.Invalid("dockerfile parse error: %s", words)
	}
	return fault.Invalid("dockerfile parse error on line %d, column %d: %s", where, column(text, where, words), words)
}

// column is where in a line that stands which the message quotes or names; else where the line's text begins.
func column(text []byte, where int, words string) int {
	lines := strings.Split(string(text), "\n")
	if where > len(lines) {
		return 1
	}
	l := lines[where-1]
	start := len(l) - len(strings.TrimLeft(l, " \t")) + 1
	for _, word := range strings.FieldsFunc(words, func(c rune) bool { return strings.ContainsRune(" \"'`(),", c) }) {
		if len(word) < 3 && !strings.HasPrefix(word, "-") {
			continue
		}
		if i := strings.Index(l, strings.TrimSuffix(word, ":")); i >= start {
			return i + 1
		}
	}
	return start
}
