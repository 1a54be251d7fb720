package blobs3

import (
	"bytes"
	"context"
	"encoding"
	"encoding/json"
	"fmt"
	"hash"
	"io"

	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"
)

// state is all that is known of an open upload, in one object, so that any process can go on with it: one line of JSON,
// then the bytes that do not fill a part yet. It is replaced as a whole after each request; a request that dies leaves
// the upload as it was before.
type state struct {
	Algorithm digest.Algorithm `json:"algorithm"`
	// Hash is the hash's state after Offset bytes.
	Hash   []byte `json:"hash"`
	Offset int64  `json:"offset"`
	// UploadID is the multipart upload's, empty before the first full part.
	UploadID string               `json:"uploadID,omitempty"`
	Parts    []minio.CompletePart `json:"parts,omitempty"`

	hash hash.Hash
	tail []byte
}

// minPart is the size of the parts of an upload; the service's lower limit is 5 MiB. Later parts of a very large
// upload are larger, since there may be 10,000 only.
const minPart = 8 << 20

func (st *state) partSize() int {
	return minPart << min(len(st.Parts)/2000, 4)
}

func newState(alg digest.Algorithm) *state {
	return &state{Algorithm: alg, hash: alg.Hash()}
}

func (s *Store) load(ctx context.Context, key string) (*state, error) {
	body, _, _, err := s.core.GetObject(ctx, s.bucket, s.upload(key, "state"), minio.GetObjectOptions{})
	if err != nil {
		return nil, classed("upload", key, err)
	}
	defer body.Close()
	raw, err := io.ReadAll(body)
	if err != nil {
		return nil, classed("upload", key, err)
	}
	line, tail, _ := bytes.Cut(raw, []byte("\n"))
	st := &state{tail: tail}
	if err := json.Unmarshal(line, st); err != nil {
		return nil, fmt.Errorf("upload %s: state: %w", key, err)
	}
	st.hash = st.Algorithm.Hash()
	if err := st.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(st.Hash); err != nil {
		return nil, fmt.Errorf("upload %s: state of the hash: %w", key, err)
	}
	return st, nil
}

func (s *Store) save(ctx context.Context, key string, st *state) error {
	var err error
	if st.Hash, err = st.hash.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
		return fmt.Errorf("upload %s: state of the hash: %w", key, err)
	}
	line, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("upload %s: state: %w", key, err)
	}
	// One piece that can be read twice: the client library sends it again when the service was not ready.
	body := make([]byte, 0, len(line)+1+len(st.tail))
	body = append(append(append(body, line...), '\n'), st.tail...)
	_, err = s.client.PutObject(ctx, s.bucket, s.upload(key, "state"), bytes.NewReader(body), int64(len(body)), minio.PutObjectOptions{DisableMultipart: true})
	if err != nil {
		return fmt.Errorf("upload %s: %w", key, err)
	}
	return nil
}

// flush turns the tail into a part.
func (s *Store) flush(ctx context.Context, key string, st *state) error {
	name := s.upload(key, "data")
	if st.UploadID == "" {
		id, err := s.core.NewMultipartUpload(ctx, s.bucket, name, minio.PutObjectOptions{ContentType: octets})
		if err != nil {
			return fmt.Errorf("upload %s: %w", key, err)
		}
		st.UploadID = id
	}
	n := len(st.Parts) + 1
	part, err := s.core.PutObjectPart(ctx, s.bucket, name, st.UploadID, n, bytes.NewReader(st.tail), int64(len(st.tail)), minio.PutObjectPartOptions{})
	if err != nil {
		return fmt.Errorf("upload %s: part %d: %w", key, n, err)
	}
	st.Parts = append(st.Parts, minio.CompletePart{PartNumber: n, ETag: part.ETag})
	st.tail = st.tail[:0]
	return nil
}
