package distribution

import (
	"strconv"
	"strings"
)

// ByteRange is an inclusive range of bytes.
type ByteRange struct{ First, Last int64 }

// Size is the number of bytes.
func (r ByteRange) Size() int64 { return r.Last - r.First + 1 }

// ParseContentRange reads the header of a chunk: "first-last", inclusive (^[0-9]+-[0-9]+$). The forms "bytes=first-last"
// and "bytes first-last/total" of older clients are accepted as well. Else BLOB_UPLOAD_INVALID.
func ParseContentRange(s string) (ByteRange, error) {
	text := strings.TrimPrefix(strings.TrimPrefix(s, "bytes="), "bytes ")
	if text != s {
		text, _, _ = strings.Cut(text, "/")
	}
	first, last, ok := strings.Cut(text, "-")
	a, okA := number(first)
	b, okB := number(last)
	if !ok || !okA || !okB || b < a || b-a+1 < 0 {
		return ByteRange{}, UploadInvalid("invalid content range %q", clip(s))
	}
	return ByteRange{a, b}, nil
}

// ParseRange reads a Range header for content of the given size (RFC 9110, section 14.2). ok is false when the header
// is to be ignored (another unit, several ranges, bad syntax): the whole content is the answer then. The error is of
// class ErrRange when the range lies outside the content.
func ParseRange(s string, size int64) (r ByteRange, ok bool, err error) {
	spec, found := strings.CutPrefix(s, "bytes=")
	spec = strings.TrimSpace(spec)
	if !found || strings.Contains(spec, ",") {
		return ByteRange{}, false, nil
	}
	first, last, found := strings.Cut(spec, "-")
	if !found {
		return ByteRange{}, false, nil
	}
	if first == "" {
		return suffixRange(last, size)
	}
	a, okA := number(first)
	b, okB := size-1, true
	if last != "" {
		b, okB = number(last)
	}
	if !okA || !okB {
		return ByteRange{}, false, nil
	}
	// An end before the beginning may be ignored or refused; the specification's own tests want it refused.
	if a >= size || last != "" && b < a {
		return ByteRange{}, false, unsatisfiable(s, size)
	}
	return ByteRange{a, min(b, size-1)}, true, nil
}

// suffixRange is "-n": the last n bytes.
func suffixRange(last string, size int64) (ByteRange, bool, error) {
	n, ok := number(last)
	if !ok {
		return ByteRange{}, false, nil
	}
	if n == 0 || size == 0 {
		return ByteRange{}, false, unsatisfiable("-"+last, size)
	}
	return ByteRange{max(0, size-n), size - 1}, true, nil
}

func unsatisfiable(s string, size int64) error {
	return NewError(CodeSizeInvalid, ErrRange, "range %q is outside of the content's %d bytes", clip(s), size)
}

// number accepts digits only: no sign, no space, at most 18 of them.
func number(s string) (int64, bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
