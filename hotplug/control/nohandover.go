//go:build noboot

package control

func (c *Server) handOver(*request) error { return ErrDeclined }

func (c *Server) switchRoot(*request) error { return ErrDeclined }
