package dockerfile

import "bytes"

// Cut is the text up to the end of the target: what comes after it is not built, and a stage without a name can be the
// target that way.
func (p *Plan) Cut(text []byte) []byte {
	if p.End == 0 {
		return text
	}
	at := 0
	for range p.End - 1 {
		n := bytes.IndexByte(text[at:], '\n')
		if n < 0 {
			return text
		}
		at += n + 1
	}
	return text[:at]
}
