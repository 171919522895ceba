/** An nftables table that is ours alone: it is to be what our script makes it, whoever changes it. */

/** The program nft(8), as a command runs it. */
export interface NftProgram {
  /** Applies a script as one transaction. */
  apply(script: string): Promise<void>;
  /** What a table of family inet holds, without its counts; undefined when it is not there. */
  list(table: string): Promise<string | undefined>;
}

/** Another program may flush everything right after our script. */
const ATTEMPTS = 3;

export class OwnTable {
  readonly name: string;
  readonly #nft: NftProgram;
  #script: string | undefined;
  #whole: string | undefined;
  #mayStand = false;

  constructor(name: string, nft: NftProgram) {
    this.name = name;
    this.#nft = nft;
  }

  /** What made it as it is to be; undefined before the first `set` that succeeded. */
  get script(): string | undefined {
    return this.#script;
  }

  /** True once a script was applied, be it that the table could not be seen then. */
  get mayStand(): boolean {
    return this.#mayStand;
  }

  /** Applies a script that leaves exactly this table; what it gives is what is put back from then on. */
  async set(script: string): Promise<void> {
    this.#whole = await this.#make(script);
    this.#script = script;
  }

  async isWhole(): Promise<boolean> {
    return this.#whole !== undefined && (await this.#nft.list(this.name)) === this.#whole;
  }

  /** Puts it back when somebody removed or changed it; resolves to whether that was so. */
  async restore(): Promise<boolean> {
    if (this.#script === undefined || (await this.isWhole())) return false;
    await this.#make(this.#script, this.#whole);
    return true;
  }

  /** Resolves to what stands right after the script: with time between, it could be somebody else's doing. */
  async #make(script: string, wanted?: string): Promise<string> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      await this.#nft.apply(script);
      this.#mayStand = true;
      const stands = await this.#nft.list(this.name);
      if (stands !== undefined && (wanted === undefined || stands === wanted)) return stands;
    }
    throw new Error(`somebody changes our nftables table ${this.name} as soon as it is set`);
  }
}
