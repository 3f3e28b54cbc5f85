// Which address has each byte of the piece of WAL at hand? Records and pages that began in an earlier piece have negative
// indexes.
import type { Lsn } from '../../pg/lsn.ts';
import { formatHalves, lsnOfHalves } from './address.ts';

const NOTHING: Uint8Array = new Uint8Array(0);

/** The bytes that are walked now, from the address (`high`, `low`) on. */
export class WalBytes {
  /** Address of the first byte; between two pieces, of the byte wanted next. */
  high = 0;
  low = 0;
  data: Uint8Array = NOTHING;
  view: DataView = new DataView(NOTHING.buffer);

  /** Looks at `data` until {@link release}; it is not copied. */
  borrow(data: Uint8Array): void {
    this.data = data;
    this.view = new DataView(data.buffer, data.byteOffset, data.length);
  }

  /** Lets go of the piece; the address stays. */
  release(): void {
    this.data = NOTHING;
  }

  /** Moves the address `length` bytes on. */
  advance(length: number): void {
    this.high = this.highAt(length);
    this.low = this.lowAt(length);
  }

  /** Upper half of the address of index `i`, which may lie before the piece. */
  highAt(i: number): number {
    const sum = (this.low >>> 0) + i;
    if (sum < 0) return (this.high - 1) | 0;
    return sum > 0xffffffff ? (this.high + 1) | 0 : this.high;
  }

  /** Lower half of the address of index `i`. */
  lowAt(i: number): number {
    return (this.low + i) | 0;
  }

  /** The address of index `i`. */
  lsnAt(i: number): Lsn {
    return lsnOfHalves(this.highAt(i), this.lowAt(i));
  }

  /** The address of index `i` as `X/X`. */
  textAt(i: number): string {
    return formatHalves(this.highAt(i), this.lowAt(i));
  }
}
