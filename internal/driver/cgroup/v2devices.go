package cgroupfs

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/core/fault"
)

// setDevices attaches a program to the group that decides on every device access: v2 has no device files.
func (g *groupV2) setDevices(r *specs.LinuxResources) error {
	if len(r.Devices) == 0 || len(r.Devices) == 1 && r.Devices[0].Allow && deviceRules(&r.Devices[0])[0] == everyDevice {
		return nil // everything is allowed in a fresh group
	}
	insns, err := deviceProgram(r.Devices)
	if err != nil {
		return err
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupDevice, Instructions: insns, License: "Apache"})
	if err != nil {
		return fmt.Errorf("load device program: %w", err)
	}
	defer prog.Close() // the group keeps it
	fd, err := openRetry(g.dir, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: fd, Program: prog, Attach: ebpf.AttachCGroupDevice, Flags: unix.BPF_F_ALLOW_MULTI,
	})
	if err != nil {
		return fmt.Errorf("attach device program: %w", err)
	}
	return nil
}

// deviceProgram compiles rules. The kernel asks with the wanted access (r, w, m), the type and the numbers. The last rule
// that speaks about a request decides: an allowing one must cover all of the access, a denying one any of it. What no
// rule speaks about is denied.
func deviceProgram(rules []specs.LinuxDeviceCgroup) (asm.Instructions, error) {
	p := asm.Instructions{
		asm.LoadMem(asm.R3, asm.R1, 0, asm.Word), // access<<16 | type
		asm.Mov.Reg32(asm.R2, asm.R3),
		asm.And.Imm32(asm.R2, 0xffff), // R2 type
		asm.RSh.Imm32(asm.R3, 16),     // R3 access
		asm.LoadMem(asm.R4, asm.R1, 4, asm.Word),
		asm.LoadMem(asm.R5, asm.R1, 8, asm.Word),
	}
	for i, r := range slices.Backward(mergeRules(rules)) {
		next := fmt.Sprintf("before%d", i)
		conditions, err := deviceConditions(&r, next)
		if err != nil {
			return nil, err
		}
		verdict := int32(0)
		if r.Allow {
			verdict = 1
		}
		p = append(append(p, conditions...), asm.Mov.Imm32(asm.R0, verdict), asm.Return())
		if len(conditions) == 0 {
			return p, nil // speaks about everything; the verifier refuses code that is never reached
		}
		p = append(p, asm.Mov.Reg32(asm.R1, asm.R3).WithSymbol(next)) // somewhere to jump to
	}
	return append(p, asm.Mov.Imm32(asm.R0, 0), asm.Return()), nil
}

// mergeRules joins allowing rules for the same devices: a request for "rw" is covered by "r" and "w" together.
func mergeRules(rules []specs.LinuxDeviceCgroup) []specs.LinuxDeviceCgroup {
	var out []specs.LinuxDeviceCgroup
	for _, r := range rules {
		if n := len(out); n > 0 && r.Allow && out[n-1].Allow {
			if i := sameDevices(out, &r); i >= 0 {
				out[i].Access += r.Access
				continue
			}
		}
		out = append(out, r)
	}
	return out
}

// sameDevices finds an allowing rule for just these devices after the last denying one.
func sameDevices(rules []specs.LinuxDeviceCgroup, r *specs.LinuxDeviceCgroup) int {
	number := func(n *int64) int64 {
		if n == nil || *n < 0 {
			return -1
		}
		return *n
	}
	for i := len(rules) - 1; i >= 0 && rules[i].Allow; i-- {
		if rules[i].Type == r.Type && number(rules[i].Major) == number(r.Major) && number(rules[i].Minor) == number(r.Minor) {
			return i
		}
	}
	return -1
}

// deviceConditions jump to next unless the rule speaks about the request; none for a rule about everything.
func deviceConditions(r *specs.LinuxDeviceCgroup, next string) (asm.Instructions, error) {
	var b asm.Instructions
	switch r.Type {
	case "", "a":
	case "b":
		b = append(b, asm.JNE.Imm(asm.R2, unix.BPF_DEVCG_DEV_BLOCK, next))
	case "c", "u":
		b = append(b, asm.JNE.Imm(asm.R2, unix.BPF_DEVCG_DEV_CHAR, next))
	default:
		return nil, fault.Invalid("invalid device type %q", r.Type)
	}
	access, err := accessMask(r.Access)
	if err != nil {
		return nil, err
	}
	if access != unix.BPF_DEVCG_ACC_READ|unix.BPF_DEVCG_ACC_WRITE|unix.BPF_DEVCG_ACC_MKNOD {
		b = append(b, asm.Mov.Reg32(asm.R1, asm.R3), asm.And.Imm32(asm.R1, access))
		if r.Allow {
			b = append(b, asm.JNE.Reg(asm.R1, asm.R3, next))
		} else {
			b = append(b, asm.JEq.Imm(asm.R1, 0, next))
		}
	}
	if r.Major != nil && *r.Major >= 0 {
		b = append(b, asm.JNE.Imm(asm.R4, int32(*r.Major), next))
	}
	if r.Minor != nil && *r.Minor >= 0 {
		b = append(b, asm.JNE.Imm(asm.R5, int32(*r.Minor), next))
	}
	return b, nil
}

func accessMask(access string) (int32, error) {
	if strings.Trim(access, "rwm") != "" || access == "" {
		return 0, errors.New("invalid device access " + access)
	}
	var mask int32
	for _, a := range access {
		switch a {
		case 'r':
			mask |= unix.BPF_DEVCG_ACC_READ
		case 'w':
			mask |= unix.BPF_DEVCG_ACC_WRITE
		case 'm':
			mask |= unix.BPF_DEVCG_ACC_MKNOD
		}
	}
	return mask, nil
}
