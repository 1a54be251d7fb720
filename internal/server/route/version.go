package route

import (
	"strconv"
	"strings"

	"longshore/internal/core/fault"
)

// Version is an API version: 1.41 is Version(1041). The zero value stands for "not given".
type Version uint32

// ParseVersion reads "1.41". Anything else than two short decimal numbers is ErrInvalidArgument.
func ParseVersion(s string) (Version, error) {
	major, minor, ok := strings.Cut(s, ".")
	a, err1 := strconv.ParseUint(major, 10, 16)
	var b uint64
	var err2 error
	if ok {
		b, err2 = strconv.ParseUint(minor, 10, 16)
	}
	if err1 != nil || err2 != nil || a > 999 || b > 999 {
		return 0, fault.Invalid("invalid API version %q: it must look like v1.41", s)
	}
	return Version(a*1000 + b), nil
}

// MustVersion is ParseVersion for constants in route tables.
func MustVersion(s string) Version {
	v, err := ParseVersion(s)
	if err != nil {
		panic(err)
	}
	return v
}

func (v Version) String() string {
	return strconv.Itoa(int(v/1000)) + "." + strconv.Itoa(int(v%1000))
}

// In tells whether v lies within [since, until]; empty bounds are open.
func (v Version) In(since, until Version) bool {
	return v >= since && (until == 0 || v <= until)
}
