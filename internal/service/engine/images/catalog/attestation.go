package catalog

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
)

// statement is the part of an in-toto statement that is looked at.
type statement struct {
	PredicateType string `json:"predicateType"`
}

// predicateAnnotation tells an attestation layer's predicate type without reading it.
const predicateAnnotation = "in-toto.io/predicate-type"

// Attestation reads a layer of an attestation, whole if it is asked for. Not ok: it is no in-toto statement, or of none of
// the predicate types; without any, all are wanted.
func Attestation(ctx context.Context, store content.Provider, l ocispec.Descriptor, types []string, whole bool) (out image.AttestationStatement, ok bool, err error) {
	out = image.AttestationStatement{Descriptor: l, PredicateType: l.Annotations[predicateAnnotation]}
	if out.PredicateType == "" || whole {
		var raw json.RawMessage
		if err := ReadJSON(ctx, store, l, &raw); err != nil {
			return out, false, fault.Internal("read attestation: %w", err)
		}
		if out.PredicateType == "" {
			var st statement
			if json.Unmarshal(raw, &st) != nil {
				return out, false, nil
			}
			out.PredicateType = st.PredicateType
		}
		if whole {
			out.Statement = &raw
		}
	}
	return out, len(types) == 0 || slices.Contains(types, out.PredicateType), nil
}
