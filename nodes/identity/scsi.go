package identity

import "strings"

// scsiDevice returns the SCSI device that d is or hangs at, or nil.
func (s *subject) scsiDevice(d *dir) *dir {
	for ; d != nil; d = d.up {
		if isSCSIDevice(d) && d.readSubsystem() == "scsi" {
			return d
		}
	}
	return nil
}

// inquiry is what every SCSI device answers.
type inquiry struct {
	vendor, vendorText string // for names, and as the device says it
	model, modelText   string
	revision, kind     string
}

// readInquiry takes it from sysfs, where the kernel keeps it from the scan of the bus.
func readInquiry(scsi *dir) inquiry {
	q := inquiry{vendorText: scsi.value("vendor"), modelText: scsi.value("model"), kind: scsiType(scsi.value("type"))}
	q.vendor, q.model = word(q.vendorText, 63), word(q.modelText, 63)
	q.revision = word(scsi.value("rev"), 63)
	return q
}

// scsiType names a peripheral device type of SPC.
func scsiType(text string) string {
	switch n, ok := number(text, 0); {
	case !ok:
		return "generic"
	case n == 0 || n == 0xe:
		return "disk"
	case n == 1:
		return "tape"
	case n == 4 || n == 7 || n == 0xf:
		return "optical"
	case n == 5:
		return "cd"
	}
	return "generic"
}

// maxPage is how much of a page of vital product data counts.
const maxPage = 4 + 254

// scsiID describes a disk by SCSI's own means.
func (s *subject) scsiID(scsi *dir, bus string) {
	q := readInquiry(scsi)
	s.set("ID_SCSI", "1")
	s.set("ID_VENDOR", q.vendor)
	s.set("ID_VENDOR_ENC", encode(q.vendorText))
	s.set("ID_MODEL", q.model)
	s.set("ID_MODEL_ENC", encode(q.modelText))
	s.set("ID_REVISION", q.revision)
	s.set("ID_TYPE", q.kind)
	n := scsiNames(scsi.bytes("vpd_pg83", maxPage), scsi.bytes("vpd_pg80", maxPage), q.vendorText, q.modelText)
	if n.serial != "" {
		s.set("ID_SERIAL", word(n.serial, 255))
		s.set("ID_SERIAL_SHORT", word(n.short, 255))
	}
	if n.wwn != "" {
		s.set("ID_WWN", "0x"+n.wwn)
		if n.extension != "" {
			s.set("ID_WWN_VENDOR_EXTENSION", "0x"+n.extension)
		}
		s.set("ID_WWN_WITH_EXTENSION", "0x"+n.wwn+n.extension)
	}
	s.setUnlessEmpty("ID_TARGET_PORT", n.targetPort)
	s.setUnlessEmpty("ID_SCSI_SERIAL", word(n.unitSerial, 255))
	s.set("ID_BUS", bus)
}

// scsiSerial is what the pages of vital product data give.
type scsiSerial struct {
	serial, short  string
	wwn, extension string
	targetPort     string
	unitSerial     string
}

// Kinds of designators in page 0x83 (SPC-4, 7.8.6), and what they are written in.
const (
	designatorVendorSpecific = 0
	designatorT10            = 1
	designatorEUI64          = 2
	designatorNAA            = 3
	designatorPortGroup      = 5

	codeBinary = 1
	codeASCII  = 2

	anyNAA      = 0
	naaExtended = 6
	naaIEEE     = 5
)

// designators are those that may name a disk, the best first.
var designators = [...]struct{ kind, naa, code byte }{
	{designatorPortGroup, anyNAA, codeBinary},
	{designatorNAA, naaExtended, codeBinary},
	{designatorNAA, naaExtended, codeASCII},
	{designatorNAA, naaIEEE, codeBinary},
	{designatorNAA, naaIEEE, codeASCII},
	{designatorNAA, anyNAA, codeBinary},
	{designatorNAA, anyNAA, codeASCII},
	{designatorEUI64, anyNAA, codeBinary},
	{designatorEUI64, anyNAA, codeASCII},
	{designatorT10, anyNAA, codeBinary},
	{designatorT10, anyNAA, codeASCII},
	{designatorVendorSpecific, anyNAA, codeBinary},
	{designatorVendorSpecific, anyNAA, codeASCII},
}

// The lengths of fields in the answer to INQUIRY.
const (
	vendorLength = 8
	modelLength  = 16
)

// scsiNames reads the pages 0x83 and 0x80, "" where the device has none.
func scsiNames(page83, page80, vendor, model string) scsiSerial {
	n := scsiSerial{}
	if len(page80) > 4 && page80[1] == 0x80 {
		data := page80[4:]
		n.unitSerial = cutNUL(data[:min(len(data), int(page80[3]))])
	}
	if len(page83) > 6 && page83[1] == 0x83 {
		if page83[6] != 0 {
			// The page as SCSI-2 has it: a name without a designator around it.
			data := page83[4:]
			n.serial = "3" + string(appendHex(nil, data[:min(len(data), int(page83[3]), 126)]))
			n.short = n.serial
			return n
		}
		for i := range designators {
			d := &designators[i]
			if n.search(page83, d.kind, d.naa, d.code, vendor, model) {
				return n
			}
		}
	}
	if len(page80) > 4 && page80[1] == 0x80 && len(vendor) >= vendorLength && len(model) >= modelLength {
		n.serial = "S" + vendor[:vendorLength] + model[:modelLength] + n.unitSerial
		n.short = n.unitSerial
	}
	return n
}

// search looks for one kind of designator in page 0x83.
func (n *scsiSerial) search(page string, kind, naa, code byte, vendor, model string) bool {
	length := int(page[2])<<8 | int(page[3])
	for rest := page[4:min(len(page), 4+length)]; len(rest) > 4; {
		end := min(len(rest), 4+int(rest[3]))
		head, data := rest[:4], rest[4:end]
		rest = rest[end:]
		association := head[1] & 0x30
		switch {
		case association != 0 && !(association == 0x10 && kind == designatorPortGroup),
			head[1]&0xf != kind, head[0]&0xf != code, len(data) == 0,
			naa != anyNAA && data[0]>>4 != naa:
			continue
		case kind == designatorPortGroup:
			if len(data) >= 4 {
				n.targetPort = shortHex(uint64(data[2])<<8 | uint64(data[3]))
			}
			continue
		}
		n.short = data
		if code == codeBinary {
			n.short = string(appendHex(nil, data[:min(len(data), 126)]))
		}
		n.short = cutNUL(n.short)
		n.serial = string(lowerHex[kind])
		if kind == designatorVendorSpecific {
			if len(vendor) < vendorLength || len(model) < modelLength {
				continue
			}
			n.serial += vendor[:vendorLength] + model[:modelLength]
		}
		n.serial += n.short
		if kind == designatorNAA {
			n.wwn = n.short[:min(len(n.short), 16)]
			n.extension = n.short[len(n.wwn):min(len(n.short), 32)]
		}
		return true
	}
	return false
}

func cutNUL(text string) string {
	text, _, _ = strings.Cut(text, "\x00")
	return text
}

// shortHex writes a number without leading zeros.
func shortHex(n uint64) string {
	text := strings.TrimLeft(hex4(n>>48)+hex4(n>>32)+hex4(n>>16)+hex4(n), "0")
	if text == "" {
		return "0"
	}
	return text
}
