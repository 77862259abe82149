import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';
import { compression } from 'vite-plugin-compression2';

// The built files are embedded in the binary and served with their compressed
// twins; `npm run dev` serves them with reload and passes API calls on to a
// server on :3000.
export default defineConfig({
  plugins: [react(), compression({ algorithms: ['gzip', 'brotliCompress'], threshold: 1024 })],
  build: { target: 'es2023', chunkSizeWarningLimit: 600, assetsInlineLimit: 0, license: { fileName: 'licenses.md' } },
  server: { proxy: { '/api': 'http://localhost:3000', '/openapi.json': 'http://localhost:3000' } },
});
