//go:build noboot

package control

import "devspool/nodes"

func (c *Server) handOver(*request) error { return ErrDeclined }

func (c *Server) switchRoot(*request) error { return ErrDeclined }

// TakeOver returns ErrRunning: this program leaves what an early boot needs out.
func TakeOver(*nodes.Dir) (socket int, err error) { return -1, ErrRunning }
