package seccomp

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	profiles "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// call is what the kernel shows to a filter.
type call struct {
	number, audit uint32
	args          [6]uint64
}

func (c *call) bytes() []byte {
	b := binary.LittleEndian.AppendUint32(nil, c.number)
	b = binary.LittleEndian.AppendUint32(b, c.audit)
	b = binary.LittleEndian.AppendUint64(b, 0x7f0011223344)
	for _, a := range c.args {
		b = binary.LittleEndian.AppendUint64(b, a)
	}
	return b
}

// run interprets a filter as the kernel does.
func run(t testing.TB, code []ins, c *call) uint32 {
	t.Helper()
	data := c.bytes()
	var acc uint32
	for pc := 0; pc < len(code); pc++ {
		i := code[pc]
		test := func(ok bool) {
			if ok {
				pc += int(i.jt)
			} else {
				pc += int(i.jf)
			}
		}
		switch i.code {
		case opLoad:
			acc = binary.LittleEndian.Uint32(data[i.k:])
		case opRet:
			return i.k
		case opJump:
			pc += int(i.k)
		case opEq:
			test(acc == i.k)
		case opGt:
			test(acc > i.k)
		case opGe:
			test(acc >= i.k)
		case opAnd:
			acc &= i.k
		default:
			t.Fatalf("unknown opcode %#x", i.code)
		}
	}
	t.Fatal("ran over the end")
	return 0
}

// evaluate reads a profile plainly, name by name, with none of the compiler's steps.
func evaluate(t testing.TB, p *specs.LinuxSeccomp, machine []*arch, c *call) uint32 {
	t.Helper()
	var a *arch
	for i, candidate := range machine {
		listed := i == 0 || slices.Contains(p.Architectures, candidate.name)
		if listed && candidate.audit == c.audit && (candidate.name == specs.ArchX32) == (c.audit == auditX8664 && c.number >= x32Bit) {
			a = candidate
		}
	}
	if a == nil {
		if c.number == ^uint32(0) && c.audit == machine[0].audit {
			a = machine[0]
		} else {
			return retKillThread
		}
	}
	must := func(v uint32, err error) uint32 {
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	def := must(verdict(p.DefaultAction, p.DefaultErrnoRet))
	newest, found := uint32(0), []uint32(nil)
	for _, unconditional := range []bool{true, false} {
		for _, sc := range p.Syscalls {
			v := must(verdict(sc.Action, sc.ErrnoRet))
			for _, name := range sc.Names {
				n, known := a.numbers[name]
				if known && n&^x32Bit < privateCalls {
					newest = max(newest, n)
				}
				if v == def || unconditional != (len(sc.Args) == 0) {
					continue
				}
				if known && n == c.number && holds(a, sc.Args, c) {
					found = append(found, v)
				}
				if m, ok := a.multiplexed[name]; ok && unconditional && a.numbers[m.call] == c.number && uint32(c.args[0]) == uint32(m.arg) {
					if !slices.ContainsFunc(p.Syscalls, func(o specs.LinuxSyscall) bool {
						return len(o.Args) == 0 && slices.Contains(o.Names, m.call) && must(verdict(o.Action, o.ErrnoRet)) != def
					}) {
						found = append(found, v)
					}
				}
			}
		}
	}
	if len(found) > 0 {
		return found[0]
	}
	if c.number > newest && newest > 0 && p.DefaultAction == specs.ActErrno {
		return retErrno | uint32(unix.ENOSYS)
	}
	return def
}

func holds(a *arch, args []specs.LinuxSeccompArg, c *call) bool {
	var seen [6]int
	for _, x := range args {
		seen[x.Index]++
	}
	all, any := true, false
	for _, x := range args {
		v, one, two := c.args[x.Index], x.Value, x.ValueTwo
		if a.narrow {
			v, one, two = uint64(uint32(v)), uint64(uint32(one)), uint64(uint32(two))
		}
		ok := map[specs.LinuxSeccompOperator]bool{
			specs.OpEqualTo: v == one, specs.OpNotEqual: v != one, specs.OpLessThan: v < one, specs.OpLessEqual: v <= one,
			specs.OpGreaterThan: v > one, specs.OpGreaterEqual: v >= one, specs.OpMaskedEqual: v&one == two,
		}[x.Op]
		all, any = all && ok, any || ok
	}
	if slices.Max(seen[:]) > 1 {
		return any
	}
	return all
}

// interesting values meet the edges of 32 and 64 bits and of the profile's own numbers.
func interesting(r *rand.Rand, p *specs.LinuxSeccomp) uint64 {
	edges := []uint64{0, 1, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<63 - 1, 1 << 63, ^uint64(0), 8, 38, 39, 40, 41, 0x20000, 0x7E020000}
	v := edges[r.IntN(len(edges))]
	if n := len(p.Syscalls); n > 0 && r.IntN(2) == 0 {
		if args := p.Syscalls[r.IntN(n)].Args; len(args) > 0 {
			v = args[r.IntN(len(args))].Value
		}
	}
	switch r.IntN(6) {
	case 0:
		return v + 1
	case 1:
		return v - 1
	case 2:
		return v | uint64(r.Uint32())<<32
	case 3:
		return r.Uint64()
	}
	return v
}

// compareWithPlain checks all numbers with random arguments on every convention.
func compareWithPlain(t *testing.T, p *specs.LinuxSeccomp, machine []*arch, seed uint64) {
	t.Helper()
	code, err := compile(p, machine)
	if errors.Is(err, ErrUnsupported) {
		t.Skipf("a random profile may be too long for any filter: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(seed, 1))
	check := func(number, audit uint32) {
		c := &call{number: number, audit: audit}
		for i := range c.args {
			c.args[i] = interesting(r, p)
		}
		if got, want := run(t, code, c), evaluate(t, p, machine, c); got != want {
			t.Fatalf("call %#x of %#x with %#x: filter says %#x, profile says %#x", c.number, c.audit, c.args, got, want)
		}
	}
	for _, audit := range []uint32{auditX8664, auditX86, auditAArch64, auditARM, 0} {
		for n := range uint32(600) {
			check(n, audit)
			check(n|x32Bit, audit)
		}
		for _, n := range []uint32{983040, 983041, 983045, 983046, x32Bit - 1, 1 << 31, ^uint32(0), ^uint32(0) - 1} {
			check(n, audit)
		}
	}
	for _, sc := range p.Syscalls {
		if len(sc.Args) == 0 {
			continue
		}
		for _, name := range sc.Names {
			for _, a := range machine {
				for range 200 {
					if n, ok := a.numbers[name]; ok {
						check(n, a.audit)
					}
				}
			}
		}
	}
}

func machines() map[string][]*arch {
	return map[string][]*arch{"amd64": {x8664(), x86(), x32()}, "arm64": {aarch64(), arm()}}
}

func specWith(caps ...string) *specs.Spec {
	return &specs.Spec{Linux: &specs.Linux{}, Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}}
}

func defaultProfile(t testing.TB, caps ...string) *specs.LinuxSeccomp {
	t.Helper()
	p, err := profiles.GetDefaultProfile(specWith(caps...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDefaultProfileIsCompiledFaithfully(t *testing.T) {
	for name, machine := range machines() {
		for _, caps := range [][]string{nil, {"CAP_SYS_CHROOT"}, {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_NET_ADMIN"}} {
			t.Run(fmt.Sprint(name, caps), func(t *testing.T) {
				p := *defaultProfile(t, caps...)
				p.Architectures = nil
				for _, a := range machine {
					p.Architectures = append(p.Architectures, a.name)
				}
				compareWithPlain(t, &p, machine, 7)
				p.Architectures = nil // native only: the others are killed
				compareWithPlain(t, &p, machine, 8)
			})
		}
	}
}

func TestRandomProfilesAreCompiledFaithfully(t *testing.T) {
	machine := machines()["amd64"]
	names := make([]string, 0, 500)
	for n := range x86().numbers {
		names = append(names, n)
	}
	slices.Sort(names)
	actions := []specs.LinuxSeccompAction{specs.ActAllow, specs.ActErrno, specs.ActKill, specs.ActKillProcess, specs.ActTrap, specs.ActTrace, specs.ActLog}
	ops := []specs.LinuxSeccompOperator{specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpMaskedEqual}
	for seed := range uint64(16) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 2))
			p := &specs.LinuxSeccomp{DefaultAction: []specs.LinuxSeccompAction{specs.ActErrno, specs.ActAllow}[r.IntN(2)]}
			for _, a := range machine {
				if r.IntN(2) == 0 {
					p.Architectures = append(p.Architectures, a.name)
				}
			}
			for range r.IntN(25) {
				sc := specs.LinuxSyscall{Action: actions[r.IntN(len(actions))]}
				if r.IntN(3) == 0 {
					e := uint(r.IntN(100))
					sc.ErrnoRet = &e
				}
				for range 1 + r.IntN(8) {
					sc.Names = append(sc.Names, names[r.IntN(len(names))])
				}
				for range r.IntN(4) {
					mask := interesting(r, p)
					sc.Args = append(sc.Args, specs.LinuxSeccompArg{Index: uint(r.IntN(6)), Op: ops[r.IntN(len(ops))], Value: mask, ValueTwo: mask & r.Uint64()})
				}
				p.Syscalls = append(p.Syscalls, sc)
			}
			compareWithPlain(t, p, machine, seed)
		})
	}
}

func TestFilterIsSmall(t *testing.T) {
	code, err := compile(defaultProfile(t), machines()["amd64"])
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d instructions", len(code))
	if len(code) > 1000 {
		t.Errorf("docker's default profile takes %d instructions", len(code))
	}
	steps := 0
	for pc := 0; pc < len(code) && code[pc].code != opRet; pc++ { // the way of read(2), the most frequent call
		steps++
		switch i := code[pc]; i.code {
		case opGe:
			pc += int(i.jf)
		case opEq:
			pc += int(i.jt)
		case opJump:
			pc += int(i.k)
		}
	}
	if steps > 24 {
		t.Errorf("read(2) takes %d steps", steps)
	}
}

func TestUnsupportedAndInvalid(t *testing.T) {
	big := uint(5000)
	for name, test := range map[string]struct {
		p           specs.LinuxSeccomp
		unsupported bool
	}{
		"listener":  {specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/run/x"}, true},
		"flags":     {specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog}}, true},
		"notify":    {specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActNotify}}}, true},
		"action":    {specs.LinuxSeccomp{DefaultAction: "SCMP_ACT_MAYBE"}, false},
		"no action": {specs.LinuxSeccomp{}, false},
		"errno":     {specs.LinuxSeccomp{DefaultAction: specs.ActErrno, DefaultErrnoRet: &big}, false},
		"index":     {specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}}}}, false},
		"operator":  {specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Op: "SCMP_CMP_NEAR"}}}}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Compile(&test.p)
			if err == nil || errors.Is(err, ErrUnsupported) != test.unsupported {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	l := New()
	s := specWith("CAP_CHOWN")
	if err := l.Load(s, "", true); err != nil {
		t.Fatal(err)
	}
	if s.Linux.Seccomp != nil || s.Annotations[Annotation] == "" {
		t.Error("with bpf there must be the annotation alone")
	}
	raw, err := base64.StdEncoding.DecodeString(s.Annotations[Annotation])
	if err != nil || len(raw)%8 != 0 {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
	plain := specWith("CAP_CHOWN")
	if err := l.Load(plain, "", false); err != nil || plain.Linux.Seccomp == nil || len(plain.Annotations) > 0 {
		t.Errorf("without bpf there must be linux.seccomp alone: %v", err)
	}
	admin := specWith("CAP_SYS_ADMIN")
	if err := l.Load(admin, "", true); err != nil || admin.Annotations[Annotation] == s.Annotations[Annotation] {
		t.Errorf("capabilities make no difference: %v", err)
	}
	log := specWith()
	if err := l.Load(log, `{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG"],"syscalls":[]}`, true); err != nil || log.Linux.Seccomp == nil {
		t.Errorf("a profile with flags must be left to the runtime: %v", err)
	}
	for _, bad := range []string{"{", `{"defaultAction":"x"}`, `[]`} {
		if err := l.Load(specWith(), bad, true); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	for i := range 3 * cacheSize {
		if err := l.Load(specWith(), fmt.Sprintf(`{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":%d}`, i), true); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.cache) > cacheSize {
		t.Errorf("%d entries are cached", len(l.cache))
	}
}

func TestTables(t *testing.T) {
	for a, want := range map[*arch]map[string]uint32{
		x8664():   {"read": 0, "openat2": 437, "newfstatat": 262},
		x86():     {"read": 3, "socketcall": 102, "clock_gettime64": 403},
		x32():     {"read": x32Bit, "ioctl": x32Bit | 514, "pwritev2": x32Bit | 547, "execveat": x32Bit | 545},
		aarch64(): {"read": 63, "openat2": 437},
		arm():     {"set_tls": 0xf0005, "cacheflush": 0xf0002, "read": 3},
	} {
		for name, n := range want {
			if got := a.numbers[name]; got != n {
				t.Errorf("%s %s = %d, want %d", a.name, name, got, n)
			}
		}
	}
	if m := x86().multiplexed["sendmmsg"]; m != (mux{"socketcall", 20}) {
		t.Errorf("sendmmsg is %v", m)
	}
	if !strings.Contains(ErrUnsupported.Error(), "seccomp") {
		t.Error("the error does not say where it comes from")
	}
}

func BenchmarkLoad(b *testing.B) {
	l := New()
	for b.Loop() {
		if err := l.Load(specWith("CAP_CHOWN", "CAP_KILL"), "", true); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	p := defaultProfile(b)
	for b.Loop() {
		if _, err := Compile(p); err != nil {
			b.Fatal(err)
		}
	}
}
