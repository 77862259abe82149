// Passkeys, by the browser's own reading of the server's JSON (WebAuthn level 3).

export const hasPasskeys = () => typeof PublicKeyCredential === 'function' && typeof PublicKeyCredential.parseCreationOptionsFromJSON === 'function';

/** Asks the authenticator for a new key; the server's options are under publicKey. */
export async function makePasskey(options: unknown): Promise<unknown> {
  const { publicKey } = options as { publicKey: PublicKeyCredentialCreationOptionsJSON };
  const made = await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(publicKey) });
  return (made as PublicKeyCredential).toJSON();
}

/** Asks the authenticator to sign the server's challenge. */
export async function signWithPasskey(options: unknown): Promise<unknown> {
  const { publicKey } = options as { publicKey: PublicKeyCredentialRequestOptionsJSON };
  const signed = await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(publicKey) });
  return (signed as PublicKeyCredential).toJSON();
}
