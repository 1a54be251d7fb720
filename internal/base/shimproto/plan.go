package shimproto

// Plan is an exec that the shim can start without the OCI runtime. It says the same as the process document.
type Plan struct {
	// Args and Env are not empty strings and contain no NUL; Args has one element at least.
	Args, Env []string
	Cwd       string // absolute
	UID, GID  uint32
	Groups    []uint32
	Umask     uint32
	Caps      Caps
	Rlimits   []Rlimit
	// NoNewPrivileges is the process's flag of that name.
	NoNewPrivileges bool
	// SetScore: Score is to be the process's oom_score_adj.
	SetScore bool
	Score    int
	// Filter is the path of the compiled seccomp filter; empty: the container has none.
	Filter string
	// Document is the OCI process document, for the runtime when the shim cannot do it.
	Document string
}

// Caps are sets of capabilities, bit n for number n.
type Caps struct{ Bounding, Effective, Permitted, Inheritable, Ambient uint64 }

// Rlimit is a limit by the kernel's number.
type Rlimit struct {
	Resource   int
	Soft, Hard uint64
}

func (p *Plan) put(w *Writer) {
	w.Strings(p.Args)
	w.Strings(p.Env)
	w.String(p.Cwd)
	w.Uint(uint64(p.UID))
	w.Uint(uint64(p.GID))
	w.Uint(uint64(len(p.Groups)))
	for _, g := range p.Groups {
		w.Uint(uint64(g))
	}
	w.Uint(uint64(p.Umask))
	for _, set := range []uint64{p.Caps.Bounding, p.Caps.Effective, p.Caps.Permitted, p.Caps.Inheritable, p.Caps.Ambient} {
		w.Uint(set)
	}
	w.Uint(uint64(len(p.Rlimits)))
	for _, l := range p.Rlimits {
		w.Uint(uint64(l.Resource))
		w.Uint(l.Soft)
		w.Uint(l.Hard)
	}
	w.Bool(p.NoNewPrivileges)
	w.Bool(p.SetScore)
	w.Int(int64(p.Score))
	w.String(p.Filter)
	w.String(p.Document)
}

func parsePlan(p *Parser) *Plan {
	x := &Plan{Args: p.Strings(), Env: p.Strings(), Cwd: p.String(), UID: uint32(p.Uint()), GID: uint32(p.Uint())}
	for range p.count() {
		x.Groups = append(x.Groups, uint32(p.Uint()))
	}
	x.Umask = uint32(p.Uint())
	x.Caps = Caps{Bounding: p.Uint(), Effective: p.Uint(), Permitted: p.Uint(), Inheritable: p.Uint(), Ambient: p.Uint()}
	for range p.count() {
		x.Rlimits = append(x.Rlimits, Rlimit{Resource: int(p.Uint()), Soft: p.Uint(), Hard: p.Uint()})
	}
	x.NoNewPrivileges, x.SetScore, x.Score = p.Bool(), p.Bool(), int(p.Int())
	x.Filter, x.Document = p.String(), p.String()
	if p.Err == nil && len(x.Args) == 0 {
		p.fail()
	}
	return x
}

// count reads the length of a list whose elements take a byte at least.
func (p *Parser) count() uint64 {
	n := p.Uint()
	if n > uint64(len(p.B)) {
		p.fail()
		return 0
	}
	return n
}
