// The SQLSTATEs we send or match. (src/backend/utils/errcodes.txt)

export const SQLSTATE = {
  successfulCompletion: '00000',
  connectionException: '08000',
  connectionFailure: '08006',
  protocolViolation: '08P01',
  featureNotSupported: '0A000',
  invalidParameterValue: '22023',
  activeSqlTransaction: '25001',
  invalidAuthorizationSpecification: '28000',
  invalidPassword: '28P01',
  invalidCatalogName: '3D000',
  insufficientPrivilege: '42501',
  syntaxError: '42601',
  invalidName: '42602',
  nameTooLong: '42622',
  undefinedObject: '42704',
  duplicateObject: '42710',
  tooManyConnections: '53300',
  configurationLimitExceeded: '53400',
  objectNotInPrerequisiteState: '55000',
  objectInUse: '55006',
  queryCanceled: '57014',
  adminShutdown: '57P01',
  crashShutdown: '57P02',
  cannotConnectNow: '57P03',
  ioError: '58030',
  undefinedFile: '58P01',
  internalError: 'XX000',
  dataCorrupted: 'XX001',
} as const;

/** Five characters, digits and upper-case letters. */
export type Sqlstate = (typeof SQLSTATE)[keyof typeof SQLSTATE];
