package seccomp

import (
	"encoding/binary"
	"fmt"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ins is a classic BPF instruction; jumps count the instructions they skip.
type ins struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

// The opcodes we use.
const (
	opLoad = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	opRet  = unix.BPF_RET | unix.BPF_K
	opJump = unix.BPF_JMP | unix.BPF_JA
	opEq   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	opGt   = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	opGe   = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	opAnd  = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
)

// Offsets in struct seccomp_data; both supported machines are little-endian.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

func load32(offset uint32) ins { return ins{code: opLoad, k: offset} }
func ret(v uint32) ins         { return ins{code: opRet, k: v} }

// branch runs yes when the comparison holds, else no. Both must end in a return. A conditional jump reaches 255
// instructions; a longer way takes an unconditional one.
func branch(op uint16, k uint32, yes, no []ins) []ins {
	out := []ins{{code: op, k: k, jf: uint8(min(len(yes), 255))}}
	if len(yes) > 255 {
		out = []ins{{code: op, k: k, jt: 1}, {code: opJump, k: uint32(len(yes))}}
	}
	out = append(out, yes...)
	return append(out, no...)
}

// condition lets execution fall through when it holds and else jumps over what follows: a block of "rest" instructions
// after the condition's own. compare holds one generator per operator.
type condition func(a *specs.LinuxSeccompArg, narrow bool, rest int) []ins

var compare = map[specs.LinuxSeccompOperator]condition{
	specs.OpEqualTo:      equal,
	specs.OpNotEqual:     notEqual,
	specs.OpLessThan:     func(a *specs.LinuxSeccompArg, n bool, r int) []ins { return ordered(a, n, r, opGe, false) },
	specs.OpLessEqual:    func(a *specs.LinuxSeccompArg, n bool, r int) []ins { return ordered(a, n, r, opGt, false) },
	specs.OpGreaterThan:  func(a *specs.LinuxSeccompArg, n bool, r int) []ins { return ordered(a, n, r, opGt, true) },
	specs.OpGreaterEqual: func(a *specs.LinuxSeccompArg, n bool, r int) []ins { return ordered(a, n, r, opGe, true) },
	specs.OpMaskedEqual:  maskedEqual,
}

func argOffsets(a *specs.LinuxSeccompArg) (lo, hi uint32) {
	lo = offArgs + 8*uint32(a.Index)
	return lo, lo + 4
}

func halves(v uint64) (lo, hi uint32) { return uint32(v), uint32(v >> 32) }

func equal(a *specs.LinuxSeccompArg, narrow bool, rest int) []ins {
	lo, hi := argOffsets(a)
	vlo, vhi := halves(a.Value)
	low := []ins{load32(lo), {code: opEq, k: vlo, jf: uint8(rest)}}
	if narrow {
		return low
	}
	return append([]ins{load32(hi), {code: opEq, k: vhi, jf: uint8(rest + len(low))}}, low...)
}

func notEqual(a *specs.LinuxSeccompArg, narrow bool, rest int) []ins {
	lo, hi := argOffsets(a)
	vlo, vhi := halves(a.Value)
	low := []ins{load32(lo), {code: opEq, k: vlo, jt: uint8(rest)}}
	if narrow {
		return low
	}
	return append([]ins{load32(hi), {code: opEq, k: vhi, jf: uint8(len(low))}}, low...)
}

// ordered compares the high half first and the low half when the high ones are equal. op is ≥ or >; with want the
// condition is that op holds, else that it does not.
func ordered(a *specs.LinuxSeccompArg, narrow bool, rest int, op uint16, want bool) []ins {
	lo, hi := argOffsets(a)
	vlo, vhi := halves(a.Value)
	holds, fails := uint8(0), uint8(rest)
	if !want {
		holds, fails = fails, holds
	}
	low := []ins{load32(lo), {code: op, k: vlo, jt: holds, jf: fails}}
	if narrow {
		return low
	}
	// the high half decides, unless it is equal
	after := func(near bool, behind int) uint8 { // near: to the end of the condition; else over the rest, too
		if near {
			return uint8(behind + len(low))
		}
		return uint8(behind + len(low) + rest)
	}
	return append([]ins{
		load32(hi),
		{code: opGt, k: vhi, jt: after(want, 1)},
		{code: opEq, k: vhi, jf: after(!want, 0)},
	}, low...)
}

func maskedEqual(a *specs.LinuxSeccompArg, narrow bool, rest int) []ins {
	lo, hi := argOffsets(a)
	mlo, mhi := halves(a.Value)
	vlo, vhi := halves(a.ValueTwo)
	low := []ins{load32(lo), {code: opAnd, k: mlo}, {code: opEq, k: vlo, jf: uint8(rest)}}
	if narrow {
		return low
	}
	return append([]ins{load32(hi), {code: opAnd, k: mhi}, {code: opEq, k: vhi, jf: uint8(rest + len(low))}}, low...)
}

// block is the code for one call: its rules in order, then the default.
func (p *policy) block(rules []rule) []ins {
	var out []ins
	for _, r := range rules {
		code := []ins{ret(r.verdict)}
		for _, c := range slices.Backward(r.conditions) {
			code = append(compare[c.Op](&c, p.arch.narrow, len(code)), code...)
		}
		out = append(out, code...)
		if len(r.conditions) == 0 {
			return out
		}
	}
	return append(out, ret(p.otherwise))
}

// span is a run of numbers that share their code, up to and including last.
type span struct {
	last uint32
	code []ins
}

const maxNumber = 1<<32 - 1

// spans covers all numbers from first on: the known calls (neighbours with the same code together), the gaps between them
// and what is newer than all of them.
func (p *policy) spans(first uint32) []span {
	numbers := make([]uint32, 0, len(p.calls))
	for n := range p.calls {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	var out []span
	add := func(last uint32, code []ins) {
		if n := len(out); n > 0 && slices.Equal(out[n-1].code, code) {
			out[n-1].last = last
			return
		}
		out = append(out, span{last, code})
	}
	next := uint64(first)
	fill := func(to uint32) { // the numbers from next to to have no rule
		if next <= uint64(p.newest) {
			add(min(to, p.newest), []ins{ret(p.otherwise)})
		}
		if to > p.newest {
			add(to, []ins{ret(p.unknown)})
		}
	}
	for _, n := range numbers {
		if uint64(n) > next {
			fill(n - 1)
		}
		add(n, p.block(p.calls[n]))
		next = uint64(n) + 1
	}
	if next <= maxNumber {
		fill(maxNumber)
	}
	return out
}

// search is a binary decision over spans.
func search(spans []span) []ins {
	if len(spans) == 1 {
		return spans[0].code
	}
	mid := len(spans) / 2
	return branch(opGe, spans[mid-1].last+1, search(spans[mid:]), search(spans[:mid]))
}

// program joins the policies of a profile. policies are in the order they are tested in; what is of no listed convention
// is killed, as libseccomp does.
func program(policies []*policy) ([]ins, error) {
	code := []ins{ret(retKillThread)}
	for _, p := range slices.Backward(policies) {
		if p.arch.name == specs.ArchX32 {
			continue // part of x86_64
		}
		code = branch(opEq, p.arch.audit, p.dispatch(policies), code)
	}
	code = append([]ins{load32(offArch)}, code...)
	if len(code) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("%w: %d instructions", ErrUnsupported, len(code))
	}
	return code, nil
}

// dispatch decides on the number. On x86_64 the x32 calls stand above the others; where they are not wanted they are
// killed, except for -1, which a tracer sets to skip a call.
func (p *policy) dispatch(all []*policy) []ins {
	spans := p.spans(0)
	body := search(spans)
	if p.arch.name == specs.ArchX86_64 {
		spans = slices.DeleteFunc(spans, func(s span) bool { return s.last >= x32Bit })
		spans = append(spans, span{x32Bit - 1, []ins{ret(p.unknown)}})
		above := []span{{maxNumber - 1, []ins{ret(retKillThread)}}, {maxNumber, []ins{ret(p.unknown)}}}
		for _, q := range all {
			if q.arch.name == specs.ArchX32 {
				above = q.spans(x32Bit)
			}
		}
		body = branch(opGe, x32Bit, search(above), search(spans))
	}
	return append([]ins{load32(offNumber)}, body...)
}

// encode gives the filter in the kernel's layout (struct sock_filter, 8 bytes each).
func encode(code []ins) []byte {
	out := make([]byte, 0, 8*len(code))
	for _, i := range code {
		out = binary.LittleEndian.AppendUint16(out, i.code)
		out = append(out, i.jt, i.jf)
		out = binary.LittleEndian.AppendUint32(out, i.k)
	}
	return out
}
