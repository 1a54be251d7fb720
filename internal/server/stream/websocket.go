package stream

import (
	"io"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

// WebSocket is the payload of a websocket's frames as a byte stream. Reads take text and binary frames alike.
type WebSocket struct {
	*websocket.Conn
	kind int
	cur  io.Reader
}

// Upgrade answers a websocket hand-shake; text makes outgoing frames text frames (API before 1.28).
func Upgrade(w http.ResponseWriter, r *http.Request, text bool) (*WebSocket, error) {
	up := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	c, err := up.Upgrade(w, r, nil)
	if err != nil {
		return nil, err
	}
	kind := websocket.BinaryMessage
	if text {
		kind = websocket.TextMessage
	}
	return &WebSocket{Conn: c, kind: kind}, nil
}

// Read implements io.Reader; a close frame is io.EOF.
func (s *WebSocket) Read(p []byte) (int, error) {
	for {
		if s.cur == nil {
			_, r, err := s.NextReader()
			if err != nil {
				if websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived) {
					return 0, io.EOF
				}
				return 0, err
			}
			s.cur = r
		}
		n, err := s.cur.Read(p)
		if err == io.EOF {
			s.cur, err = nil, nil
			if n == 0 {
				continue
			}
		}
		return n, err
	}
}

// Write sends p as one frame.
func (s *WebSocket) Write(p []byte) (int, error) {
	if err := s.WriteMessage(s.kind, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite tells the client that no more comes.
func (s *WebSocket) CloseWrite() error {
	return s.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
}

// SetDeadline implements net.Conn.
func (s *WebSocket) SetDeadline(t time.Time) error {
	if err := s.SetReadDeadline(t); err != nil {
		return err
	}
	return s.SetWriteDeadline(t)
}
