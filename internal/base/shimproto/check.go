package shimproto

import "encoding/binary"

// ChecksCommand is the argument that makes the shim's program the process that runs health checks for a daemon. It serves
// a SOCK_SEQPACKET socket, ControlFD, until that ends: one message is one CheckRequest, with a pidfd of the container's
// init beside it, or one cancellation, and one message of it is one CheckAnswer.
const ChecksCommand = "checks"

// NothingCommand is the argument of a program that ends at once.
const NothingCommand = "nothing"

// MaxCheck bounds a message of that socket, in bytes; what does not fit is an exec.
const MaxCheck = 64 << 10

// MaxCheckOutput is how much of a check's output is kept, in bytes.
const MaxCheckOutput = 4096

// Place is where a process belongs that is started beside a container's own.
type Place struct {
	// Tasks are the files of the container's control groups of v1; Group is its directory of v2, empty: none.
	Tasks []string
	Group string
	// Init is the container's first process.
	Init int
	// Filter is the compiled seccomp filter; empty: none, or the Plan names its file.
	Filter string
	// Homed: the environment has HOME, if the user has one.
	Homed bool
}

// CheckRequest runs a command and asks for its end. Call is not 0 and unique among those that run.
type CheckRequest struct {
	Call        uint32
	TimeoutNano int64
	// Rest is a Place and a Plan, by EncodeWay.
	Rest []byte
}

// Encode makes the message.
func (r CheckRequest) Encode() []byte {
	w := Writer(binary.BigEndian.AppendUint32(make([]byte, 0, 14+len(r.Rest)), r.Call))
	w.Int(r.TimeoutNano)
	return append(w, r.Rest...)
}

// EncodeWay makes the part of a request that is the same each time.
func EncodeWay(at *Place, p *Plan) []byte {
	var w Writer
	w.Strings(at.Tasks)
	w.String(at.Group)
	w.Uint(uint64(at.Init))
	w.String(at.Filter)
	w.Bool(at.Homed)
	p.put(&w)
	return w
}

// EncodeCancel makes the message that kills what was asked for with that call. It has no other answer.
func EncodeCancel(call uint32) []byte { return binary.BigEndian.AppendUint32(nil, call) }

// DecodeCheck reads a message. A cancellation has no plan.
func DecodeCheck(b []byte) (r CheckRequest, at *Place, plan *Plan, err error) {
	if len(b) < 4 {
		return r, nil, nil, ErrFrame
	}
	r.Call = binary.BigEndian.Uint32(b)
	if len(b) == 4 {
		return r, nil, nil, nil
	}
	p := Parser{B: b[4:]}
	r.TimeoutNano = p.Int()
	at = &Place{Tasks: p.Strings(), Group: p.String(), Init: int(p.Uint()), Filter: p.String(), Homed: p.Bool()}
	plan = parsePlan(&p)
	return r, at, plan, p.Err
}

// CheckAnswer is how a check ended.
type CheckAnswer struct {
	Call uint32
	// Status is OK when the command ran, Gone when the container has ended, else Failed: nothing of it has run.
	Status Status
	Code   int // 128+n for signal n
	// Late: it was killed after its time. Code says nothing then.
	Late bool
	// Output is the beginning of both streams, up to MaxCheckOutput; More: there was more.
	Output string
	More   bool
	// Home is what was found for HOME where the request was not Homed, "HOME=" before it; empty: the user has none.
	Home string
}

// Encode makes the message.
func (a CheckAnswer) Encode() []byte {
	w := Writer(binary.BigEndian.AppendUint32(make([]byte, 0, 16+len(a.Output)), a.Call))
	w = append(w, byte(a.Status))
	w.Uint(uint64(a.Code))
	w.Bool(a.Late)
	w.Bool(a.More)
	w.String(a.Output)
	w.String(a.Home)
	return w
}

// DecodeCheckAnswer reads the message.
func DecodeCheckAnswer(b []byte) (a CheckAnswer, err error) {
	if len(b) < 5 {
		return a, ErrFrame
	}
	a.Call, a.Status = binary.BigEndian.Uint32(b), Status(b[4])
	p := Parser{B: b[5:]}
	a.Code, a.Late, a.More, a.Output, a.Home = int(p.Uint()), p.Bool(), p.Bool(), p.String(), p.String()
	return a, p.Err
}
