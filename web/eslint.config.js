import hooks from 'eslint-plugin-react-hooks';
import ts from 'typescript-eslint';

export default ts.config(
  { ignores: ['dist', 'src/api.gen.ts'] },
  ...ts.configs.strict,
  hooks.configs.flat['recommended-latest'],
);
