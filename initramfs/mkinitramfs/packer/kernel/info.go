package kernel

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"strings"

	"devspool/initramfs/mkinitramfs/packer/packed"
)

// Info is what a module says of itself, as modinfo(8) shows it: keys and values.
type Info [][2]string

// All returns the values of one key.
func (i Info) All(key string) (values []string) {
	for _, field := range i {
		if field[0] == key {
			values = append(values, field[1])
		}
	}
	return values
}

// ReadInfo reads the file of a module, which may be compressed.
func ReadInfo(path string) (Info, error) {
	if uncompressed(path) != path {
		data, err := ReadModule(path)
		if err != nil {
			return nil, err
		}
		return ParseInfo(path, bytes.NewReader(data))
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return ParseInfo(path, file)
}

// ReadModule returns the decompressed bytes of a module. Its signature stays behind it.
func ReadModule(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if data, err = packed.Unpack(data); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

// ParseInfo reads the section .modinfo of an ELF file.
func ParseInfo(path string, from io.ReaderAt) (Info, error) {
	file, err := elf.NewFile(from)
	if err != nil {
		return nil, fmt.Errorf("%s is no kernel module: %w", path, err)
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("%s is no kernel module: it has no section .modinfo", path)
	}
	data, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var info Info
	for field := range strings.SplitSeq(string(data), "\x00") {
		if key, value, ok := strings.Cut(field, "="); ok {
			info = append(info, [2]string{key, value})
		}
	}
	return info, nil
}
