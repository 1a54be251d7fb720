package seccomp

import (
	"errors"
	"fmt"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ErrUnsupported means that a profile needs something which a bare filter cannot give (a notification listener, flags, an
// architecture without table): the OCI runtime must compile it.
var ErrUnsupported = errors.New("seccomp: profile cannot be compiled ahead of time")

// The verdicts of a filter (linux/seccomp.h).
const (
	retKillThread  = 0x00000000
	retKillProcess = 0x80000000
	retTrap        = 0x00030000
	retErrno       = 0x00050000
	retTrace       = 0x7ff00000
	retLog         = 0x7ffc0000
	retAllow       = 0x7fff0000
)

// verdict translates an action; errno defaults to EPERM.
func verdict(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	data := uint32(unix.EPERM)
	if errno != nil {
		if *errno > 0xfff {
			return 0, fmt.Errorf("seccomp: errno %d is out of range", *errno)
		}
		data = uint32(*errno)
	}
	switch a {
	case specs.ActKill, specs.ActKillThread:
		return retKillThread, nil
	case specs.ActKillProcess:
		return retKillProcess, nil
	case specs.ActTrap:
		return retTrap, nil
	case specs.ActErrno:
		return retErrno | data, nil
	case specs.ActTrace:
		return retTrace | data, nil
	case specs.ActLog:
		return retLog, nil
	case specs.ActAllow:
		return retAllow, nil
	case specs.ActNotify:
		return 0, fmt.Errorf("%w: notifications", ErrUnsupported)
	}
	return 0, fmt.Errorf("seccomp: unknown action %q", a)
}

// rule is one way to a verdict: all conditions hold, or there are none.
type rule struct {
	conditions []specs.LinuxSeccompArg
	verdict    uint32
}

// policy is what a filter does with the calls of one convention.
type policy struct {
	arch *arch
	// calls maps numbers to rules, the first that fits decides; an unconditional one stands alone.
	calls map[uint32][]rule
	// otherwise is the verdict without a fitting rule; unknown the one for numbers above newest, which the profile's author
	// cannot have known: a program may then fall back on an older call.
	otherwise, unknown uint32
	newest             uint32
}

// privateCalls begin here (ARM); they do not count as new.
const privateCalls = 0xf0000

// newPolicy resolves a profile for one convention. Rules that repeat the default say nothing; a call that is unconditional
// anywhere is so everywhere; names that the convention does not know are skipped, as OCI runtimes do.
func newPolicy(p *specs.LinuxSeccomp, a *arch) (*policy, error) {
	otherwise, err := verdict(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	pol := &policy{arch: a, calls: make(map[uint32][]rule), otherwise: otherwise, unknown: otherwise}
	for i := range p.Syscalls {
		sc := &p.Syscalls[i]
		v, err := verdict(sc.Action, sc.ErrnoRet)
		if err != nil {
			return nil, err
		}
		rules, err := splitRules(sc.Args, v)
		if err != nil {
			return nil, err
		}
		for _, name := range sc.Names {
			if n, ok := a.numbers[name]; ok && n&^x32Bit < privateCalls {
				pol.newest = max(pol.newest, n)
			}
			if v != otherwise {
				pol.add(name, rules)
			}
		}
	}
	permissive := p.DefaultAction == specs.ActAllow || p.DefaultAction == specs.ActLog || p.DefaultAction == specs.ActTrace || p.DefaultAction == specs.ActTrap
	if pol.newest > 0 && !permissive {
		pol.unknown = retErrno | uint32(unix.ENOSYS)
	}
	return pol, nil
}

func (p *policy) add(name string, rules []rule) {
	if n, ok := p.arch.numbers[name]; ok {
		p.put(n, rules)
	}
	if m, ok := p.arch.multiplexed[name]; ok && len(rules) == 1 && len(rules[0].conditions) == 0 {
		// conditions on arguments cannot be checked behind a multiplexer: it takes a pointer to them
		p.put(p.arch.numbers[m.call], []rule{{verdict: rules[0].verdict, conditions: []specs.LinuxSeccompArg{{Index: 0, Value: m.arg, Op: specs.OpEqualTo}}}})
	}
}

func (p *policy) put(n uint32, rules []rule) {
	have := p.calls[n]
	switch {
	case len(have) > 0 && len(have[0].conditions) == 0:
	case len(rules[0].conditions) == 0:
		p.calls[n] = rules
	default:
		p.calls[n] = append(slices.Clip(have), rules...)
	}
}

// splitRules: conditions on different arguments must all hold; where one argument occurs twice, each condition is a rule
// of its own (the OCI runtimes' reading of a profile).
func splitRules(args []specs.LinuxSeccompArg, v uint32) ([]rule, error) {
	var seen [6]bool
	repeated := false
	for _, a := range args {
		if a.Index > 5 {
			return nil, fmt.Errorf("seccomp: argument index %d is out of range", a.Index)
		}
		if _, ok := compare[a.Op]; !ok {
			return nil, fmt.Errorf("seccomp: unknown operator %q", a.Op)
		}
		repeated = repeated || seen[a.Index]
		seen[a.Index] = true
	}
	if !repeated {
		return []rule{{conditions: args, verdict: v}}, nil
	}
	var rules []rule
	for _, a := range args {
		rules = append(rules, rule{conditions: []specs.LinuxSeccompArg{a}, verdict: v})
	}
	return rules, nil
}
